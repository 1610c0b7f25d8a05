-- Tells how rooms of a partition stand. Changes nothing.
--
-- KEYS        of each room: room, log: see log.lua
--
-- Reply: for each room nothing when it is not there, else epoch, seq, past, how many members it has, and when its last
-- entry was appended, in milliseconds of Redis's clock, -1 where the log does not have it any more

local reply = {}
for key = 1, #KEYS, 2 do
  local standing = redis.call('HGET', KEYS[key], 'log')
  if standing then
    -- As log.lua packs it.
    local epoch, _, seq, _, _, _, _, _, _, _, _, _, rest = struct.unpack('>c16c40dddddddddd', standing)
    local id = string.format('%.0f-0', seq)
    local entry = redis.call('XRANGE', KEYS[key + 1], id, id)[1]
    reply[#reply + 1] = { epoch, seq, string.sub(standing, rest), redis.call('HLEN', KEYS[key]) - 1,
      entry and tonumber(entry[2][2]) or -1 }
  else
    reply[#reply + 1] = {}
  end
end
return reply
