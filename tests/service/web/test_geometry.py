"""The page's geometry by itself, for many random views: view.js, grid.js, coverage.js and sources.js."""

from playwright.sync_api import Page

from model.viewport import MAX_SIDE, MIN_REGION_EXTENT, REGION_BOUNDS


def test_zoom_keeps_its_anchor_and_clamped_views_keep_within_the_bounds(page: Page) -> None:
    worst = page.evaluate(
        """async () => {
            const view = await import("/web/picture/view.js");
            const random = (low, high) => low + (high - low) * Math.random();
            const worst = { anchor: 0, reach: 0, extent: Infinity, square: 0 };
            for (let i = 0; i < 20000; i++) {
                const size = { width: Math.ceil(random(1, 3000)), height: Math.ceil(random(1, 2000)) };
                const any = { x: random(-3, 4), y: random(-3, 4), extent: 10 ** random(-12, 2) };
                const start = view.clampView(any, size);
                const [x0, y0, x1, y1] = view.regionOf(start, size);
                worst.reach = Math.max(worst.reach, -1 - x0, -1 - y0, x1 - 2, y1 - 2);
                worst.extent = Math.min(worst.extent, x1 - x0, y1 - y0);
                const square = (x1 - x0) / (y1 - y0) / (size.width / size.height) - 1;
                if (start.extent > 1e-3) worst.square = Math.max(worst.square, Math.abs(square));
                const anchor = { x: random(0, size.width), y: random(0, size.height) };
                const before = view.planePoint(start, size, anchor);
                const closer = view.zoom(start, size, anchor, random(1, 10));
                const after = view.planePoint(closer, size, anchor);
                const distance = Math.hypot(after.x - before.x, after.y - before.y);
                worst.anchor = Math.max(worst.anchor, distance / view.pixelSize(closer, size));
            }
            return worst;
        }"""
    )
    assert worst["reach"] <= 0
    assert worst["extent"] >= 1e-9
    assert worst["square"] < 1e-9
    assert worst["anchor"] < 0.01  # of a pixel, at magnifications up to 10⁹


def test_views_at_rest_lie_on_the_pixels_of_a_picture_that_the_service_takes(page: Page) -> None:
    worst = page.evaluate(
        """async ([maxSide, low, high]) => {
            const grid = await import("/web/picture/grid.js");
            const { clampView, planePoint, pixelSize, regionOf } = await import("/web/picture/view.js");
            const random = (low, high) => low + (high - low) * Math.random();
            const worst = { zoom: 0, anchor: 0, again: 0, region: 0, inside: true, extent: Infinity };
            for (let i = 0; i < 20000; i++) {
                const size = { width: Math.ceil(random(200, 2560)), height: Math.ceil(random(200, 1600)) };
                const any = { x: random(-1, 2), y: random(-1, 2), extent: 10 ** random(-8.9, 0.4) };
                const start = clampView(any, size);
                const anchor = { x: random(0, size.width), y: random(0, size.height) };
                const rest = grid.snap(start, size, anchor);
                const free = start.extent < 2 * Math.min(size.width, size.height) / Math.max(size.width, size.height);
                if (free) worst.zoom = Math.max(worst.zoom, Math.abs(Math.log(rest.extent / start.extent)));
                const [a, b] = [planePoint(start, size, anchor), planePoint(rest, size, anchor)];
                const inner = regionOf(start, size).every((at, k) => Math.abs(at - (k < 2 ? -1 : 2)) > start.extent);
                const distance = Math.hypot(a.x - b.x, a.y - b.y) / pixelSize(rest, size);
                if (inner) worst.anchor = Math.max(worst.anchor, distance);
                const scale = grid.scaleOf(rest, size), rect = grid.rectOf(rest, size, scale);
                const twice = grid.rectOf(grid.snap(rest, size), size, scale);
                worst.again = Math.max(worst.again, Math.abs(twice.x - rect.x), Math.abs(twice.y - rect.y));
                const large = grid.largePicture(rect, scale), { crop } = large;
                const { width, height } = large.size;
                const fits = crop.x >= 0 && crop.y >= 0 && crop.x + crop.width <= width
                    && crop.y + crop.height <= height && Math.max(width, height) <= maxSide
                    && large.region.every((value) => value >= low && value <= high);
                worst.inside &&= fits;
                worst.extent = Math.min(worst.extent, rest.extent);
                const pixel = (large.region[2] - large.region[0]) / large.size.width;
                const left = large.region[0] + pixel * crop.x;
                worst.region = Math.max(worst.region, Math.abs(left - regionOf(rest, size)[0]) / pixelSize(rest, size));
            }
            return worst;
        }""",
        [MAX_SIDE, *REGION_BOUNDS],
    )
    assert worst["zoom"] < 0.05  # the nearest of eight scales for each doubling
    assert worst["anchor"] < 1.5  # pixels
    assert worst["again"] == 0  # at rest it stays
    assert worst["inside"]
    assert worst["extent"] >= MIN_REGION_EXTENT
    assert worst["region"] < 0.01  # of a pixel, at magnifications up to 10⁹


def test_what_is_missing_of_a_rectangle_is_what_no_other_covers(page: Page) -> None:
    wrong = page.evaluate(
        """async () => {
            const { uncovered, intersect } = await import("/web/picture/coverage.js");
            const random = (high) => Math.floor(Math.random() * high);
            const any = () => ({ x: random(20), y: random(20), width: 1 + random(12), height: 1 + random(12) });
            const has = (r, x, y) => x >= r.x && y >= r.y && x < r.x + r.width && y < r.y + r.height;
            for (let i = 0; i < 2000; i++) {
                const rect = any(), others = Array.from({ length: random(5) }, any), parts = uncovered(rect, others);
                for (let x = 0; x < 32; x++) for (let y = 0; y < 32; y++) {
                    const expected = Number(has(rect, x, y) && !others.some((other) => has(other, x, y)));
                    if (parts.filter((part) => has(part, x, y)).length !== expected) return [rect, others, parts];
                }
                if (parts.some((a) => parts.some((b) => a !== b && intersect(a, b)))) return [rect, others, parts];
            }
            return null;
        }"""
    )
    assert wrong is None


def test_a_glide_ends_where_it_should_and_grows_evenly(page: Page) -> None:
    halfway, end = page.evaluate(
        """async () => {
            const { between } = await import("/web/picture/view.js");
            const [from, to] = [{ x: 0.5, y: 0.5, extent: 1 }, { x: 0.3, y: 0.7, extent: 0.01 }];
            return [between(from, to, 0.5), between(from, to, 1)];
        }"""
    )
    assert abs(halfway["extent"] - 0.1) < 1e-9
    assert abs(halfway["x"] - (0.5 - 0.2 * 0.9 / 0.99)) < 1e-9
    assert end == {"x": 0.3, "y": 0.7, "extent": 0.01}


def test_parts_of_a_stored_picture_cover_what_is_in_view(page: Page) -> None:
    worst = page.evaluate(
        """async () => {
            const { storedSource, within } = await import("/web/picture/sources.js");
            const grid = await import("/web/picture/grid.js");
            const { clampView, regionOf } = await import("/web/picture/view.js");
            const random = (low, high) => Math.exp(Math.log(low) + Math.log(high / low) * Math.random());
            const side = (high) => Math.ceil(random(1, high));
            const worst = { missing: 0, inside: true, enlarged: false };
            for (let i = 0; i < 20000; i++) {
                const job = { id: "0", width: side(262144), height: side(262144) };
                const canvas = { width: 200 + side(2800), height: 200 + side(1800) };
                const any = { x: Math.random(), y: Math.random(), extent: random(1e-6, 3) };
                const view = grid.snap(clampView(any, canvas), canvas), source = storedSource(job);
                const own = grid.scaleOf(view, canvas), scale = Math.min(own, source.finestScale);
                const seen = grid.roundOut(grid.rescale(grid.rectOf(view, canvas, own), own, scale), scale, 1);
                const rect = within(source, seen, scale);
                if (rect.width <= 0 || rect.height <= 0) continue; // out of sight
                const { path, region } = source.request(rect, scale, 95);
                const [x, y, w, h, width, height] = path.match(/\\d+(?=[,/])/g).slice(-7, -1).map(Number);
                worst.inside &&= x >= 0 && y >= 0 && x + w <= job.width && y + h <= job.height && w > 0 && h > 0;
                worst.enlarged ||= width > w || height > h;
                const shown = regionOf(view, canvas), pixel = 1 / Math.max(job.width, job.height);
                for (const axis of [0, 1]) {
                    const start = Math.max(shown[axis], source.frame[axis]);
                    const end = Math.min(shown[axis + 2], source.frame[axis + 2]);
                    if (start >= end) continue;
                    const missing = Math.max(region[axis] - start, end - region[axis + 2]) / pixel;
                    worst.missing = Math.max(worst.missing, missing);
                }
            }
            return worst;
        }"""
    )
    assert worst["inside"]
    assert not worst["enlarged"]
    assert worst["missing"] < 1e-5  # of a pixel
