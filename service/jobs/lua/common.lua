-- Shared by the scripts of jobs; Redis runs each of them whole or not at all.
--
-- A job is a hash (state, order, created, total, done, next, open …). `next` is the first tile that is not queued yet,
-- `open` the number of its entries in the queue. The entry numbered `total` assembles the job's file; the script that
-- settles the last tile queues it.
--
-- Tiles are queued when a worker takes them, so the queue holds what is in progress, what is tried again and files to
-- assemble, which are thus taken before tiles. Jobs share the workers by fair queueing: jobs with tiles left to queue
-- are in `waiting` by the pixels that they will have had with their next tile, and the job with the least is served.
--
-- Ids are never used again: entries of a deleted job belong to no other job.
local stream, group = 'creps:queue:tiles', 'workers'
local max_events = 2000
local webhooks = 'creps:webhooks' -- ended jobs whose webhooks are due, by time
local waiting = 'creps:jobs:waiting'
local keys = 'creps:jobs:keys' -- digest of an idempotency key → id of its job

local function key(id, part) return 'creps:job:' .. id .. (part and ':' .. part or '') end

local function now()
    local time = redis.call('TIME')
    return string.format('%d.%06d', time[1], time[2])
end

local function add_event(id, ...)
    redis.call('XADD', key(id, 'events'), 'MAXLEN', '~', max_events, '*', ...)
end

-- The sorted sets that list a job: that of all jobs, and that of its owner. With ':STATE' appended: those of its state.
local function lists(id)
    local owner = redis.call('HGET', key(id), 'owner')
    return owner and {'creps:jobs', 'creps:jobs:owner:' .. owner} or {'creps:jobs'}
end

-- Adds a job to the lists, with its owner, '' for none, and details for clients as JSON.
local function list_job(id, created, owner, details)
    redis.call('HSET', key(id), 'details', details)
    if owner ~= '' then redis.call('HSET', key(id), 'owner', owner) end
    for _, list in ipairs(lists(id)) do redis.call('ZADD', list, created, id) end
end

local function set_state(id, state)
    local before, created = unpack(redis.call('HMGET', key(id), 'state', 'created'))
    for _, list in ipairs(lists(id)) do
        if before then redis.call('ZREM', list .. ':' .. before, id) end
        redis.call('ZADD', list .. ':' .. state, created, id)
    end
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
    add_event(id, 'state', state)
end

local function set_idempotency_key(id, digest)
    if digest == '' or redis.call('HSETNX', keys, digest, id) == 0 then return end
    redis.call('HSET', key(id), 'key', digest)
end

local function is_unfinished(state) return state == 'queued' or state == 'running' end

local function queue_tile(id, tile, tries)
    local pixels = redis.call('HGET', key(id), 'pixels')
    redis.call('XADD', stream, '*', 'pixels', pixels, 'job', id, 'tile', tile, 'tries', tries)
    redis.call('HINCRBY', key(id), 'open', 1)
end

-- Adds a job to those that wait for workers, behind the one that is served next. Nothing changes where it waits already.
local function add_waiting(id)
    local least = redis.call('ZRANGE', waiting, 0, 0, 'WITHSCORES')[2] or 0
    redis.call('ZADD', waiting, 'NX', least + redis.call('HGET', key(id), 'pixels'), id)
end

-- Queues a job's next tile and returns its pixels, or nothing where the job has ended or no tile is left.
local function queue_next_tile(id)
    local state, next, total, pixels = unpack(redis.call('HMGET', key(id), 'state', 'next', 'total', 'pixels'))
    if not state or not is_unfinished(state) or tonumber(next) >= tonumber(total) then
        redis.call('ZREM', waiting, id)
        return
    end
    queue_tile(id, next, 0)
    redis.call('HINCRBY', key(id), 'next', 1)
    redis.call('ZINCRBY', waiting, pixels, id)
    return tonumber(pixels)
end

-- Deletes an entry from the queue. False where another worker has done so, and all that follows from it.
local function remove_entry(id, entry)
    redis.call('XACK', stream, group, entry)
    if redis.call('XDEL', stream, entry) == 0 then return false end
    if redis.call('EXISTS', key(id)) == 1 then redis.call('HINCRBY', key(id), 'open', -1) end
    return true
end

