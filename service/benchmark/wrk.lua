-- Requests of which each has another seed, in place of %d.
-- Arguments: method, path, body or "", first seed. Prints the measurement as one line of JSON.
local method, path, body, seed

function init(args)
    method, path, body, seed = args[1], args[2], args[3], tonumber(args[4])
    wrk.headers["Content-Type"] = "application/json"
end

function request()
    seed = seed + 1
    return wrk.format(method, path:format(seed), nil, body ~= "" and body:format(seed) or nil)
end

function done(summary, latency)
    local errors = summary.errors
    print(string.format(
        '{"responses": %d, "seconds": %f, "p50_ms": %f, "p99_ms": %f, "failed": %d}',
        summary.requests, summary.duration / 1e6, latency:percentile(50) / 1e3, latency:percentile(99) / 1e3,
        errors.connect + errors.read + errors.write + errors.status + errors.timeout
    ))
end
