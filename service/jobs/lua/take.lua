-- Queues the next tiles of the job that has had the least, and reads them for a worker. Other jobs follow only where it
-- has too few: the tiles of a batch should have the same model.
-- ARGV: consumer, limits of entries and of pixels. Returns the entries.
local max_entries, max_pixels = tonumber(ARGV[2]), tonumber(ARGV[3])
local entries, pixels, id = 0, 0, nil
while entries < max_entries and pixels < max_pixels do
    id = id or redis.call('ZRANGE', waiting, 0, 0)[1]
    if not id then break end
    local tile_pixels = queue_next_tile(id)
    if tile_pixels then entries, pixels = entries + 1, pixels + tile_pixels else id = nil end
end
if entries == 0 then return {} end
return redis.call('XREADGROUP', 'GROUP', group, ARGV[1], 'COUNT', entries, 'STREAMS', stream, '>')[1][2]
