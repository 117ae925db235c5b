-- Adds a job that had succeeded when Redis lost it.
-- ARGV: id, order, created, tiles, unix seconds of its end, webhook or '', '1' where the webhook was sent, digest of
-- the idempotency key or '', owner or '', details.
local id, webhook, sent = ARGV[1], ARGV[6], ARGV[7] == '1'
if redis.call('EXISTS', key(id)) == 1 then return end
redis.call('HSET', key(id), 'order', ARGV[2], 'created', ARGV[3], 'total', ARGV[4], 'done', ARGV[4],
    'next', ARGV[4], 'open', 0)
set_idempotency_key(id, ARGV[8])
list_job(id, ARGV[3], ARGV[9], ARGV[10])
if webhook ~= '' and not sent then redis.call('HSET', key(id), 'webhook', webhook) end
set_state(id, 'succeeded')
if webhook ~= '' and sent then redis.call('HSET', key(id), 'webhook', webhook, 'told', 'sent') end
redis.call('HSET', key(id), 'finished', ARGV[5])
redis.call('ZADD', 'creps:jobs:ended', ARGV[5], id)
