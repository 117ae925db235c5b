-- Appends requests to a stream until it is full. Entries are deleted when they are answered, so the length of the
-- stream counts those that wait and those that run.
-- KEYS: stream. ARGV: limit, number of fields and values of each entry, then those of all entries.
-- Returns how many were appended, and the age of the oldest entry in milliseconds, or 0 where all were appended.
local size = tonumber(ARGV[2])
local count = (#ARGV - 2) / size
local appended = math.max(math.min(tonumber(ARGV[1]) - redis.call('XLEN', KEYS[1]), count), 0)
for i = 0, appended - 1 do
    redis.call('XADD', KEYS[1], '*', unpack(ARGV, 3 + i * size, 2 + (i + 1) * size))
end
if appended == count then return {appended, 0} end
local oldest = redis.call('XRANGE', KEYS[1], '-', '+', 'COUNT', 1)[1][1]
local now = redis.call('TIME')
return {appended, now[1] * 1000 + math.floor(now[2] / 1000) - tonumber(string.match(oldest, '%d+'))}
