-- Names the members of a room whose leases ended unrenewed.
--
-- KEYS[1..3], ARGV[1..6]: see log.lua and roster.lua
-- ARGV[7]     at most so many
--
-- Reply: ..., skeleton and roster entry of each

local overdue = {}
for _, skeleton in ipairs(redis.call('ZRANGEBYSCORE', NAMES, '-inf', int(now), 'LIMIT', 0, ARGV[7])) do
  local entry = member(skeleton)
  if entry then
    overdue[#overdue + 1] = skeleton
    overdue[#overdue + 1] = entry
  else
    redis.call('ZREM', NAMES, skeleton)
  end
end
finish()
return { replid, epoch, seq, past, overdue }
