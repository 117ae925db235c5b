-- Removes a consumer that holds no entries: removing it would lose them.
-- KEYS: stream. ARGV: group, consumer. Returns 1 where it was removed.
if #redis.call('XPENDING', KEYS[1], ARGV[1], '-', '+', 1, ARGV[2]) == 0 then
    redis.call('XGROUP', 'DELCONSUMER', KEYS[1], ARGV[1], ARGV[2])
    return 1
end
return 0
