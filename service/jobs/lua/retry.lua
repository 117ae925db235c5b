-- Moves an entry to the end of the queue; where its job has ended, deletes it.
-- ARGV: id, entry, tile, tries.
local id = ARGV[1]
local state = redis.call('HGET', key(id), 'state')
if remove_entry(id, ARGV[2]) and state and is_unfinished(state) then queue_tile(id, ARGV[3], ARGV[4]) end
