-- Notes how many tiles the file that is being assembled has.
-- ARGV: id, tiles. Returns whether the file is still needed; it is where Redis was emptied, as the job is restored.
local id = ARGV[1]
local state = redis.call('HGET', key(id), 'state')
if not state then return 1 end
if not is_unfinished(state) then return 0 end
redis.call('HSET', key(id), 'stored', ARGV[2])
add_event(id, 'stored', ARGV[2])
return 1
