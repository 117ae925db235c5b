-- Reads a batch from the most urgent stream that has entries. One script, since the device is idle for each round trip.
-- KEYS: the set of jobs with tiles that are not queued yet, then the streams, the most urgent first.
-- ARGV: group, consumer, then for each stream its limits of entries and pixels.
-- The first field of an entry is its pixels; no more entries are read once their sum reaches the limit.
-- Returns the stream and the entries, or whether there are such jobs: 1 or 0.
local group, consumer = ARGV[1], ARGV[2]
for i = 2, #KEYS do
    local stream, max_entries, max_pixels = KEYS[i], tonumber(ARGV[2 * i - 1]), tonumber(ARGV[2 * i])
    local entries, pixels = {}, 0
    while #entries < max_entries and pixels < max_pixels do
        local reply = redis.call('XREADGROUP', 'GROUP', group, consumer, 'COUNT', 1, 'STREAMS', stream, '>')
        if not reply then break end
        local entry, fields = unpack(reply[1][2][1])
        entries[#entries + 1] = {entry, mark_cancelled(fields)}
        pixels = pixels + (tonumber(fields[2]) or 0)
    end
    if #entries > 0 then return {stream, entries} end
end
return redis.call('EXISTS', KEYS[1])
