-- Counts an attempt at a projection. Returns its number, or 0 if the projection has ended or is forgotten.
-- KEYS: its hash.
local state = redis.call('HGET', KEYS[1], 'state')
if state ~= 'queued' and state ~= 'running' then return 0 end
redis.call('HSET', KEYS[1], 'state', 'running')
return redis.call('HINCRBY', KEYS[1], 'attempts', 1)
