-- Removes members whose leases ended unrenewed, and tells the room: one burst for all of them.
--
-- KEYS[1..3], ARGV[1..6]: see log.lua and roster.lua
-- KEYS[4..]   the lease of each member
-- ARGV[7]     milliseconds of a lease
-- ARGV[8,9]   from when on this Redis was seen at work, and until when that counts, in milliseconds of
--             its clock
-- ARGV[10..]  skeleton, session, payload of `left` of each member
--
-- Reply: ..., how many were removed, milliseconds to the earliest deadline or -1

local lease, since, upto = tonumber(ARGV[7]), tonumber(ARGV[8]), tonumber(ARGV[9])
local count = 0
for i = 1, #KEYS - 3 do
  local a = 10 + (i - 1) * 3
  if evict(KEYS[3 + i], ARGV[a], ARGV[a + 1], ARGV[a + 2], lease, since, upto) then
    count = count + 1
  end
end
finish()
return { replid, epoch, seq, past, count, next_deadline() }
