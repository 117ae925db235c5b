-- Creates a job whose tiles wait for workers, unless the job or another of the same idempotency key exists.
-- ARGV: id, order, created, tiles, mean pixels of a tile, webhook or '', digest of the idempotency key or '', limit of
-- unfinished jobs or '' for a job that was accepted before, 'ask' to change nothing, owner or '', details.
-- Returns the id of the job that exists now; 'full' or 'unsettled', having changed nothing; or nothing where 'ask'
-- finds that the job would be created.
local id, digest, limit = ARGV[1], ARGV[7], ARGV[8]
if redis.call('EXISTS', key(id)) == 1 then return id end
if digest ~= '' then
    local holder = redis.call('HGET', keys, digest)
    if holder then return holder end
    -- The key's job may be among those that Redis lost when it was restarted.
    local run = redis.call('INFO', 'server'):match('run_id:(%x+)')
    if limit ~= '' and redis.call('GET', 'creps:jobs:compared') ~= run then return 'unsettled' end
end
if limit ~= '' then
    local unfinished = redis.call('ZCARD', 'creps:jobs:queued') + redis.call('ZCARD', 'creps:jobs:running')
    if unfinished >= tonumber(limit) then return 'full' end
end
if ARGV[9] == 'ask' then return end
redis.call('HSET', key(id), 'order', ARGV[2], 'created', ARGV[3], 'total', ARGV[4], 'pixels', ARGV[5],
    'next', 0, 'open', 0, 'done', 0, 'window', 256) -- workers of earlier versions read the window
if ARGV[6] ~= '' then redis.call('HSET', key(id), 'webhook', ARGV[6]) end
set_idempotency_key(id, digest)
list_job(id, ARGV[3], ARGV[10], ARGV[11])
set_state(id, 'queued')
local idle = redis.call('ZCARD', waiting) == 0
add_waiting(id)
if idle then queue_next_tile(id) end -- wakes a worker; where other jobs wait, all are busy
return id
