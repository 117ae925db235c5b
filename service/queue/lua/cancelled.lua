-- Adds the field 'cancelled' to the fields of a request whose client has gone.
local function mark_cancelled(fields)
    for i = 1, #fields, 2 do
        if fields[i] == 'id' and redis.call('EXISTS', 'creps:cancelled:' .. fields[i + 1]) == 1 then
            fields[#fields + 1], fields[#fields + 2] = 'cancelled', '1'
            break
        end
    end
    return fields
end
