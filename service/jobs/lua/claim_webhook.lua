-- Claims an ended job whose webhook is due. It is due again after some seconds, in case the claiming process dies.
-- ARGV: seconds. Returns the job's id and the number of earlier attempts, or nothing.
local id = redis.call('ZRANGE', webhooks, '-inf', now(), 'BYSCORE', 'LIMIT', 0, 1)[1]
if not id then return end
redis.call('ZADD', webhooks, now() + tonumber(ARGV[1]), id)
return {id, redis.call('HINCRBY', key(id), 'told_tries', 1) - 1}
