-- Reads a part of a room's log together with its head. Changes nothing.
--
-- KEYS[1] room, KEYS[2] log: see log.lua
-- ARGV[1]     after this seq
-- ARGV[2]     at most so many entries
-- ARGV[3]     about so many bytes, but at least one entry
--
-- Reply: nothing when there is no log, else epoch, seq, past, then seq id and payload of each

local STEP = 16

local standing = redis.call('HGET', KEYS[1], 'log')
if not standing then return {} end
-- As log.lua packs it.
local epoch, _, seq, _, _, _, _, _, _, _, _, _, rest = struct.unpack('>c16c40dddddddddd', standing)
local entries, bytes = {}, 0
local left, from = tonumber(ARGV[2]), string.format('%.0f-0', tonumber(ARGV[1]) + 1)
while left > 0 and bytes < tonumber(ARGV[3]) do
  local step = redis.call('XRANGE', KEYS[2], from, '+', 'COUNT', math.min(left, STEP))
  for _, entry in ipairs(step) do
    if #entries > 0 and bytes + #entry[2][4] > tonumber(ARGV[3]) then
      left = 0
      break
    end
    entries[#entries + 1] = entry[1]
    entries[#entries + 1] = entry[2][4]
    bytes = bytes + #entry[2][4]
  end
  left = left - #step
  if #step < STEP then break end
  from = '(' .. step[#step][1]
end
return { epoch, seq, string.sub(standing, rest), entries }
