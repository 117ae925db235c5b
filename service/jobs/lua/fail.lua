-- Moves an entry to the dead letters and fails its job.
-- ARGV: id, entry, reason, tile, tries, worker.
local id = ARGV[1]
if not remove_entry(id, ARGV[2]) then return end
redis.call('XADD', 'creps:dead', 'MAXLEN', '~', 1000, '*', 'stream', stream, 'entry', ARGV[2], 'job', id,
    'tile', ARGV[4], 'tries', ARGV[5], 'worker', ARGV[6], 'error', ARGV[3])
local state = redis.call('HGET', key(id), 'state')
if state and is_unfinished(state) then
    redis.call('HSET', key(id), 'error', ARGV[3])
    set_state(id, 'failed')
end
