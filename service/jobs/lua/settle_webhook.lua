-- Notes the outcome of an attempt to send a webhook.
-- ARGV: id, 'sent', 'failed' or 'waiting', seconds until the next attempt where it is 'waiting'.
local id = ARGV[1]
if not redis.call('ZSCORE', webhooks, id) then return end
redis.call('HSET', key(id), 'told', ARGV[2])
if ARGV[2] == 'waiting' then redis.call('ZADD', webhooks, now() + tonumber(ARGV[3]), id)
else redis.call('ZREM', webhooks, id) end
