-- Cancels an unfinished job. Its queued entries are dropped by the workers that read them.
-- ARGV: id. Returns 1 where this cancelled it.
local state = redis.call('HGET', key(ARGV[1]), 'state')
if not state or not is_unfinished(state) then return 0 end
set_state(ARGV[1], 'cancelled')
return 1
