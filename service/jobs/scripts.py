"""What changes a job in Redis: Lua scripts, each of which Redis carries out whole or not at all.

A job is a hash (``state``, ``order``, ``created``, ``total``, ``done``, ``next``, ``open`` …). ``next`` is the first
tile that is not queued yet, ``open`` counts its entries in the queue; the entry numbered ``total`` finishes the job.
Whoever settles an entry also queues the tiles that come next, so no process has to stay alive for a job to go on.

No id is ever used again, so what is still queued of a forgotten job can be told from all others and counts nowhere.
"""

_COMMON = """
local stream, group = 'creps:queue:tiles', 'workers'
local events_kept = 2000
local webhooks = 'creps:webhooks' -- ended jobs whose webhooks are to be told, by when
local keys = 'creps:jobs:keys' -- from the digests of idempotency keys to their jobs, of all jobs that have one
local compared = 'creps:jobs:compared' -- the run of this Redis in which it was compared with the store

local function key(id, part) return 'creps:job:' .. id .. (part and ':' .. part or '') end

local function now()
    local time = redis.call('TIME')
    return string.format('%d.%06d', time[1], time[2])
end

local function tell(id, ...)
    redis.call('XADD', key(id, 'events'), 'MAXLEN', '~', events_kept, '*', ...)
end

local function enter(id, state)
    local before = redis.call('HGET', key(id), 'state')
    if before then redis.call('ZREM', 'creps:jobs:' .. before, id) end
    redis.call('ZADD', 'creps:jobs:' .. state, redis.call('HGET', key(id), 'created'), id)
    redis.call('HSET', key(id), 'state', state)
    if state == 'running' then redis.call('HSET', key(id), 'started', now()) end
    if state == 'succeeded' or state == 'failed' or state == 'cancelled' then
        redis.call('HSET', key(id), 'finished', now())
        redis.call('ZADD', 'creps:jobs:ended', now(), id)
        if state ~= 'succeeded' then redis.call('SADD', 'creps:jobs:untidy', id) end
        if redis.call('HEXISTS', key(id), 'webhook') == 1 then
            redis.call('HSET', key(id), 'told', 'waiting')
            redis.call('ZADD', webhooks, now(), id)
        end
    end
    tell(id, 'state', state)
end

local function hold(id, digest)
    if digest == '' or redis.call('HSETNX', keys, digest, id) == 0 then return end
    redis.call('HSET', key(id), 'key', digest)
end

local function alive(state) return state == 'queued' or state == 'running' end

local function queue(id, tile, tries)
    local pixels = redis.call('HGET', key(id), 'pixels')
    redis.call('XADD', stream, '*', 'pixels', pixels, 'job', id, 'tile', tile, 'tries', tries)
    redis.call('HINCRBY', key(id), 'open', 1)
end

local function feed(id)
    local job = redis.call('HMGET', key(id), 'next', 'total', 'open', 'done', 'window')
    local next, total, open, done = tonumber(job[1]), tonumber(job[2]), tonumber(job[3]), tonumber(job[4])
    while open < tonumber(job[5]) and next < total do
        queue(id, next, 0)
        next, open = next + 1, open + 1
    end
    redis.call('HSET', key(id), 'next', next)
    if done == total and open == 0 then queue(id, total, 0) end
end

-- Takes an entry out of the queue. False where another worker has done so: then it has also done all the rest.
local function remove(id, entry)
    redis.call('XACK', stream, group, entry)
    if redis.call('XDEL', stream, entry) == 0 then return false end
    if redis.call('EXISTS', key(id)) == 1 then redis.call('HINCRBY', key(id), 'open', -1) end
    return true
end
"""

ADMIT = (
    _COMMON
    + """
-- ARGV: id, order, created, tiles, pixels of a tile, window, webhook or nothing, digest of the idempotency key or
-- nothing, unfinished jobs that are allowed or nothing for a job that had been accepted, 'ask' where nothing is to be
-- changed. Returns the id of the job that is there for the order; or 'full' or 'unsettled', and has changed nothing;
-- or nothing where it was asked and would be admitted. A job that is known stays as it is.
local id, digest, limit = ARGV[1], ARGV[8], ARGV[9]
if redis.call('EXISTS', key(id)) == 1 then return id end
if digest ~= '' then
    local holder = redis.call('HGET', keys, digest)
    if holder then return holder end
    -- What Redis lost at its last start may be the key's job.
    local run = redis.call('INFO', 'server'):match('run_id:(%x+)')
    if limit ~= '' and redis.call('GET', compared) ~= run then return 'unsettled' end
end
if limit ~= '' then
    local unfinished = redis.call('ZCARD', 'creps:jobs:queued') + redis.call('ZCARD', 'creps:jobs:running')
    if unfinished >= tonumber(limit) then return 'full' end
end
if ARGV[10] == 'ask' then return end
redis.call('HSET', key(id), 'order', ARGV[2], 'created', ARGV[3], 'total', ARGV[4], 'pixels', ARGV[5],
    'window', ARGV[6], 'next', 0, 'open', 0, 'done', 0)
if ARGV[7] ~= '' then redis.call('HSET', key(id), 'webhook', ARGV[7]) end
hold(id, digest)
redis.call('ZADD', 'creps:jobs', ARGV[3], id)
enter(id, 'queued')
feed(id)
return id
"""
)

REMEMBER = (
    _COMMON
    + """
-- ARGV: id, order, created, tiles, unix seconds of its end, webhook or nothing, whether that has been told, digest of
-- the idempotency key or nothing. A job that had succeeded when Redis lost it.
local id, webhook, told = ARGV[1], ARGV[6], ARGV[7] == '1'
if redis.call('EXISTS', key(id)) == 1 then return end
redis.call('HSET', key(id), 'order', ARGV[2], 'created', ARGV[3], 'total', ARGV[4], 'done', ARGV[4],
    'next', ARGV[4], 'open', 0)
hold(id, ARGV[8])
redis.call('ZADD', 'creps:jobs', ARGV[3], id)
if webhook ~= '' and not told then redis.call('HSET', key(id), 'webhook', webhook) end
enter(id, 'succeeded')
if webhook ~= '' and told then redis.call('HSET', key(id), 'webhook', webhook, 'told', 'sent') end
redis.call('HSET', key(id), 'finished', ARGV[5])
redis.call('ZADD', 'creps:jobs:ended', ARGV[5], id)
"""
)

SETTLE = (
    _COMMON
    + """
-- ARGV: id, entry, tile. The tile, or the finished file, is in the store. Returns whether it may stay there. It may
-- where the job is not known: if Redis was emptied, the job is found again, else the keeper removes its files.
local id, tile = ARGV[1], tonumber(ARGV[3])
local first = remove(id, ARGV[2])
local state, total = unpack(redis.call('HMGET', key(id), 'state', 'total'))
if state == 'cancelled' or state == 'failed' then return 0 end
if not first or not state or state == 'succeeded' then return 1 end
if tile == tonumber(total) then
    enter(id, 'succeeded')
    return 1
end
if state == 'queued' then enter(id, 'running') end
if redis.call('SETBIT', key(id, 'tiles'), tile, 1) == 0 then
    redis.call('HINCRBY', key(id), 'done', 1)
    tell(id, 'tile', tile)
end
feed(id)
return 1
"""
)

ADVANCE = (
    _COMMON
    + """
-- ARGV: id, tiles that are in the file which is being finished. Returns whether anybody wants it still.
local id = ARGV[1]
local state = redis.call('HGET', key(id), 'state')
if not state then return 1 end -- if Redis was emptied, the job is found again
if not alive(state) then return 0 end
redis.call('HSET', key(id), 'stored', ARGV[2])
tell(id, 'stored', ARGV[2])
return 1
"""
)

RETRY = (
    _COMMON
    + """
-- ARGV: id, entry, tile, tries. Another worker, or this one, shall try again, where the job has not ended.
local id = ARGV[1]
local state = redis.call('HGET', key(id), 'state')
if remove(id, ARGV[2]) and state and alive(state) then queue(id, ARGV[3], ARGV[4]) end
"""
)

DROP = (
    _COMMON
    + """
-- ARGV: id, entry. Nobody wants it any more.
remove(ARGV[1], ARGV[2])
"""
)

FAIL = (
    _COMMON
    + """
-- ARGV: id, entry, reason, tile, tries, worker. The tile goes to the dead letters, and the job ends with the reason.
local id = ARGV[1]
if not remove(id, ARGV[2]) then return end
redis.call('XADD', 'creps:dead', 'MAXLEN', '~', 1000, '*', 'stream', stream, 'entry', ARGV[2], 'job', id,
    'tile', ARGV[4], 'tries', ARGV[5], 'worker', ARGV[6], 'error', ARGV[3])
local state = redis.call('HGET', key(id), 'state')
if state and alive(state) then
    redis.call('HSET', key(id), 'error', ARGV[3])
    enter(id, 'failed')
end
"""
)

CANCEL = (
    _COMMON
    + """
-- ARGV: id. Returns whether this ended it. Entries in the queue are dropped by those who take them.
local state = redis.call('HGET', key(ARGV[1]), 'state')
if not state or not alive(state) then return 0 end
enter(ARGV[1], 'cancelled')
return 1
"""
)

FORGET = (
    _COMMON
    + """
-- ARGV: id. Its files are gone already.
local id = ARGV[1]
local state, digest = unpack(redis.call('HMGET', key(id), 'state', 'key'))
if digest then redis.call('HDEL', keys, digest) end
redis.call('DEL', key(id), key(id, 'events'), key(id, 'tiles'))
redis.call('SREM', 'creps:jobs:untidy', id)
for _, set in ipairs({webhooks, 'creps:jobs', 'creps:jobs:ended', 'creps:jobs:' .. (state or '')}) do
    redis.call('ZREM', set, id)
end
"""
)

CLAIM_WEBHOOK = (
    _COMMON
    + """
-- ARGV: seconds. Returns an ended job whose webhook is to be told now, and how often that was tried before. It is due
-- again after so many seconds, should whoever asks not live to tell how it went.
local id = redis.call('ZRANGE', webhooks, '-inf', now(), 'BYSCORE', 'LIMIT', 0, 1)[1]
if not id then return end
redis.call('ZADD', webhooks, now() + tonumber(ARGV[1]), id)
return {id, redis.call('HINCRBY', key(id), 'told_tries', 1) - 1}
"""
)

SETTLE_WEBHOOK = (
    _COMMON
    + """
-- ARGV: id, 'sent' or 'failed', or 'waiting' with the seconds after which it is tried again.
local id = ARGV[1]
if not redis.call('ZSCORE', webhooks, id) then return end
redis.call('HSET', key(id), 'told', ARGV[2])
if ARGV[2] == 'waiting' then redis.call('ZADD', webhooks, now() + tonumber(ARGV[3]), id)
else redis.call('ZREM', webhooks, id) end
"""
)
