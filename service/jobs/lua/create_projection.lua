-- Queues a projection, unless too many are unfinished. Returns whether it has.
-- KEYS: its hash, the sorted set of unfinished ones. ARGV: id, order, time of creation, seconds until it is forgotten, limit.
if redis.call('ZCARD', KEYS[2]) >= tonumber(ARGV[5]) then return 0 end
redis.call('HSET', KEYS[1], 'order', ARGV[2], 'state', 'queued')
redis.call('EXPIRE', KEYS[1], ARGV[4])
redis.call('ZADD', KEYS[2], ARGV[3], ARGV[1])
return 1
