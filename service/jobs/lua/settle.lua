-- Notes that a tile, or the assembled file, is in the object store.
-- ARGV: id, entry, tile. Returns whether the object may stay. It may where Redis does not know the job: either Redis was
-- emptied and the job is restored, or the reconciler removes its files.
local id, tile = ARGV[1], tonumber(ARGV[3])
local first = remove_entry(id, ARGV[2])
local state, total = unpack(redis.call('HMGET', key(id), 'state', 'total'))
if state == 'cancelled' or state == 'failed' then return 0 end
if not first or not state or state == 'succeeded' then return 1 end
if tile == tonumber(total) then
    set_state(id, 'succeeded')
    return 1
end
if state == 'queued' then set_state(id, 'running') end
if redis.call('SETBIT', key(id, 'tiles'), tile, 1) == 0 then
    add_event(id, 'tile', tile, 'done', redis.call('HINCRBY', key(id), 'done', 1))
end
local next, open, done = unpack(redis.call('HMGET', key(id), 'next', 'open', 'done'))
if tonumber(next) < tonumber(total) then add_waiting(id) -- a job that an earlier version has queued in part
elseif done == total and open == '0' then queue_tile(id, total, 0) end
return 1
