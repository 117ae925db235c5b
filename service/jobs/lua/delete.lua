-- Deletes all keys of a job, whose files were removed before.
-- ARGV: id.
local id = ARGV[1]
local state, digest = unpack(redis.call('HMGET', key(id), 'state', 'key'))
if digest then redis.call('HDEL', keys, digest) end
for _, list in ipairs(lists(id)) do
    redis.call('ZREM', list, id)
    redis.call('ZREM', list .. ':' .. (state or ''), id)
end
redis.call('DEL', key(id), key(id, 'events'), key(id, 'tiles'))
redis.call('SREM', 'creps:jobs:untidy', id)
for _, set in ipairs({webhooks, waiting, 'creps:jobs:ended'}) do
    redis.call('ZREM', set, id)
end
