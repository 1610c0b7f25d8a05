-- Removes members whose time has passed, and tells their rooms: one burst for all of them.
--
-- KEYS[1..4], ARGV[1..6]: see log.lua and roster.lua
-- KEYS[5..]   of each room: room, log
-- ARGV[7,8]   from when on this Redis was seen at work, and until when that counts, in milliseconds of
--             its clock
-- ARGV[9..]   of each room: its channel, how many; then skeleton, session, payload of `left` of each member
--
-- Reply: how many were removed

local since, upto = tonumber(ARGV[7]), tonumber(ARGV[8])
local count, arg = 0, 9
for key = 5, #KEYS, 2 do
  enter(KEYS[key], KEYS[key + 1], ARGV[arg])
  local before = count
  local members = tonumber(ARGV[arg + 1])
  for i = 1, members do
    local a = arg + 3 * i - 1
    if evict(ARGV[a], ARGV[a + 1], ARGV[a + 2], since, upto) then count = count + 1 end
  end
  if count > before then finish() end
  arg = arg + 2 + 3 * members
end
return { count }
