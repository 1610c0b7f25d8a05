-- Looks rooms of a partition through for members whose time has passed, and names more rooms of it.
--
-- KEYS[1..4]  rooms, replicas, dead, lingering
-- KEYS[5..]   the rooms
-- ARGV[1]     milliseconds of a lease
-- ARGV[2]     where more rooms are known from, as ZSCAN told it; empty for none
-- ARGV[3]     how many incarnations' members are looked for
-- ARGV[4..]   these; then of each room where to go on, as HSCAN told it, or a colon and the skeleton of a member
--
-- Reply: where more rooms are known from or 0, these rooms, then of each room that was looked through where to go on or
-- 0, and a list of: skeleton and entry of each overdue member. Rooms that are left out were not looked at

-- About so many members are looked at, and so many of them named.
local LOOK, NAME, STEP = 512, 128, 128

local at = clock()
REPLICAS, DEAD, LINGERING, LEASE = KEYS[2], KEYS[3], KEYS[4], tonumber(ARGV[1])
local sub = string.sub

-- When the leases of those ended whose members are looked for.
local ended = {}
local count = tonumber(ARGV[3])
for i = 1, count do
  local score = redis.call('ZSCORE', DEAD, ARGV[3 + i])
  if score and tonumber(score) <= at then ended[ARGV[3 + i]] = tonumber(score) end
end

local looked, named = 0, 0
local function name(found, skeleton, entry)
  found[#found + 1], found[#found + 2] = skeleton, entry
  named = named + 1
end

-- A member that the index says to have lingered for long enough.
local function look_at_lingering(room, skeleton, found)
  local entry = redis.call('HGET', room, '@' .. skeleton)
  local lingers = entry and sub(entry, 97, 97) == 'l'
  if lingers and tonumber(sub(entry, 98, 112)) <= at
      or entry and not lingers and not redis.call('ZSCORE', REPLICAS, sub(entry, 81, 96)) then
    return name(found, skeleton, entry)
  end
  -- The index is behind: it was taken over, or is gone.
  local place = string.match(room, ':room:(.*)$') .. ' ' .. skeleton
  if lingers then
    redis.call('ZADD', LINGERING, tonumber(sub(entry, 98, 112)), place)
  else
    redis.call('ZREM', LINGERING, place)
  end
end

-- One of a room's members. That of a dead replica whose session may linger is reaped by the index.
local function look_at(room, skeleton, entry, found)
  local died = ended[sub(entry, 81, 96)]
  if not died or sub(entry, 97, 97) == 'l' then return end
  local kept = died + tonumber(sub(entry, 113, 122))
  if kept <= at then return name(found, skeleton, entry) end
  redis.call('ZADD', LINGERING, string.format('%d', kept),
    string.match(room, ':room:(.*)$') .. ' ' .. skeleton)
  keep_until(LINGERING, at, kept + 100 * LEASE)
end

local reply = { '0', {} }
for key = 5, #KEYS do
  if looked >= LOOK or named >= NAME then break end
  local cursor, found = ARGV[count + key - 1], {}
  if sub(cursor, 1, 1) == ':' then
    looked = looked + 1
    look_at_lingering(KEYS[key], sub(cursor, 2), found)
    cursor = '0'
  else
    repeat
      local page = redis.call('HSCAN', KEYS[key], cursor, 'COUNT', STEP)
      cursor = page[1]
      for i = 1, #page[2], 2 do
        if sub(page[2][i], 1, 1) == '@' then
          look_at(KEYS[key], sub(page[2][i], 2), page[2][i + 1], found)
        end
      end
      looked = looked + 1 + #page[2] / 2
    until cursor == '0' or looked >= LOOK or named >= NAME
  end
  reply[#reply + 1] = cursor
  reply[#reply + 1] = found
end
if ARGV[2] ~= '' then
  local page = redis.call('ZSCAN', KEYS[1], ARGV[2], 'COUNT', STEP)
  reply[1] = page[1]
  for i = 1, #page[2], 2 do reply[2][#reply[2] + 1] = page[2][i] end
end
return reply
