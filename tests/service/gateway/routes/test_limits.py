"""What the service says of itself."""

from importlib.metadata import version

from tests.service.gateway.stand_in import RunningGateway


def test_limits_are_those_that_requests_meet(gateway: RunningGateway) -> None:
    limits = gateway.http.get("/v1/limits").json()
    assert limits["max_image_pixels"] == gateway.app_state.settings.max_image_pixels
    assert limits["max_job_pixels"] == gateway.app_state.settings.max_job_pixels
    assert limits["request_timeout"] == gateway.app_state.settings.request_timeout
    address = "/v1/images/plain/1.png"
    assert gateway.http.get(address, params={"width": limits["max_side"] + 1}).status_code == 422
    assert gateway.http.get(address, params={"psi": limits["truncation_psi"][1] + 0.1}).status_code == 422
    wide = {"width": limits["max_sides"]["webp"] + 1, "height": 1}
    assert gateway.http.get(address.replace("png", "webp"), params=wide).status_code == 422


def test_version(bare_gateway: RunningGateway) -> None:
    assert bare_gateway.http.get("/version").json() == {"version": version("creps-serve")}
