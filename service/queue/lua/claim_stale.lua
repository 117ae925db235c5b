-- Claims the first entry whose worker has sent no heartbeat for a while.
-- KEYS: streams, the most urgent first. ARGV: group, consumer, milliseconds without a heartbeat, then stream and entry
-- of everything that the consumer holds.
-- Returns stream, entry, fields and number of deliveries, this one included; or false.
local group, consumer, timeout = ARGV[1], ARGV[2], ARGV[3]
for i = 4, #ARGV, 2 do -- else a late heartbeat of our own would look like a dead worker
    redis.call('XCLAIM', ARGV[i], group, consumer, 0, ARGV[i + 1], 'JUSTID')
end
for _, stream in ipairs(KEYS) do
    while true do
        local pending = redis.call('XPENDING', stream, group, 'IDLE', timeout, '-', '+', 1)[1]
        if not pending then break end
        local claimed = redis.call('XCLAIM', stream, group, consumer, timeout, pending[1])[1]
        if claimed then return {stream, claimed[1], mark_cancelled(claimed[2]), pending[4] + 1} end
        redis.call('XACK', stream, group, pending[1]) -- the entry was deleted
    end
end
return false
