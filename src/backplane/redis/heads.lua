-- Tells where rooms of a partition stand, and keeps those with members from being forgotten.
--
-- KEYS[1]     rooms
-- KEYS[2..]   of each room: room, log
-- ARGV[1..5]  see log.lua
--
-- Reply: for each room nothing, or epoch, seq, past, how many streams have lost their sessions

local names = {}
for key = 2, #KEYS, 2 do names[#names + 1] = string.match(KEYS[key], ':room:(.*)$') end
local indexed = names[1] and redis.call('ZMSCORE', KEYS[1], unpack(names)) or {}

local function head(key, index)
  local entry = redis.call('HGET', KEYS[key], 'log')
  if not entry then return {} end
  open(KEYS[key], KEYS[key + 1], KEYS[1], '', entry)
  -- It would be looked for in vain.
  if not indexed[index] then forgotten = 0 end
  -- Rooms that nobody is in are not asked for.
  if epoch ~= string.sub(entry, 1, 16) or forgotten < now + OCCUPIED + longest or not fits_about() then
    -- A Redis that is full takes what needs no memory, and what follows in the same step.
    redis.call('PEXPIREAT', ROOM, int(math.max(forgotten, now + OCCUPIED)))
    close(OCCUPIED + longest, {})
  end
  return { epoch, seq, past, takeovers }
end

local reply = {}
for key = 2, #KEYS, 2 do
  -- What is wrong with one room is no other room's affair.
  local done, answer = pcall(head, key, key / 2)
  reply[#reply + 1] = done and answer or {}
end
return reply
