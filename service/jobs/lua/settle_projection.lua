-- Ends a projection, unless it has ended. Returns whether it has not.
-- KEYS: its hash, the sorted set of unfinished ones, its lock. ARGV: id, field, value, field, value …
local state = redis.call('HGET', KEYS[1], 'state')
if state ~= 'queued' and state ~= 'running' then return 0 end
redis.call('HSET', KEYS[1], unpack(ARGV, 2))
redis.call('ZREM', KEYS[2], ARGV[1])
redis.call('DEL', KEYS[3])
return 1
