-- Takes a name in a room and tells the room.
--
-- KEYS[1..4], ARGV[1..6]: see lib.lua
-- KEYS[5]     the lease of the name
-- KEYS[6]     whether the session has left already
-- KEYS[7..]   the lease of each member to evict
-- ARGV[7]     milliseconds of a lease
-- ARGV[8..10] skeleton, token, session
-- ARGV[11]    the member, as the roster keeps it
-- ARGV[12]    the payload of `joined`
-- ARGV[13,14] epoch and seq at which the hold was last confirmed; an empty epoch when it is new
-- ARGV[15]    1 to refuse while anybody is overdue
-- ARGV[16]    at most so many overdue members are named in a refusal
-- ARGV[17]    the last client seq that the session knows to be appended
-- ARGV[18..]  skeleton, session, payload of `left` of each member to evict
--
-- Reply: ..., verdict, then
--   'joined', position seq, 1 if the room was told, milliseconds to the earliest deadline
--   'taken'
--   'overdue', skeleton and roster entry of each

local skeleton, token, session = ARGV[8], ARGV[9], ARGV[10]

open()
local held = redis.call('GET', KEYS[5])
local there = redis.call('HGET', ROSTER, skeleton)
local mine = there and (split(there)) == session
local again = ARGV[13] ~= ''
if held == token and mine then
  -- The answer to an earlier try was lost; or a renewal came first, and then the join that the roster
  -- tells of is the one before the hold was confirmed.
  local _, _, _, told, joined = string.match(there, '^(%x+) (%d+) (%d+) ([tu])(%d+) ')
  joined = tonumber(joined)
  if not again or (told == 't' and joined > tonumber(ARGV[14])) then
    finish()
    return { replid, epoch, seq, past, 'joined', joined, told == 't' and 1 or 0, next_deadline() }
  end
end
-- A join that was overtaken by its own leave, on a connection that was given up, is over.
local overtaken = redis.call('EXISTS', KEYS[6]) == 1
if (held and held ~= token and not (again and mine)) or overtaken then
  finish()
  return { replid, epoch, seq, past, 'taken' }
end

-- Whoever stands in the way and is not to be evicted is named, and nothing is changed.
local evicted = {}
for a = 18, #ARGV, 3 do evicted[ARGV[a]] = ARGV[a + 1] end
local overdue, limit = {}, 2 * tonumber(ARGV[16])
local function look_at(other)
  local entry = redis.call('HGET', ROSTER, other)
  local holder = entry and (split(entry))
  if holder and holder ~= session and evicted[other] ~= holder and #overdue < limit then
    overdue[#overdue + 1] = other
    overdue[#overdue + 1] = entry
  end
end
look_at(skeleton)
if ARGV[15] == '1' then
  for _, other in ipairs(redis.call('ZRANGEBYSCORE', LEASES, '-inf', int(now), 'LIMIT', 0, limit)) do
    if #overdue >= limit then break end
    if other ~= skeleton then look_at(other) end
  end
end
if #overdue > 0 then
  finish()
  return { replid, epoch, seq, past, 'overdue', overdue }
end

for i = 1, #KEYS - 6 do
  local a = 18 + (i - 1) * 3
  evict(KEYS[6 + i], ARGV[a], ARGV[a + 1], ARGV[a + 2])
end
if mine then
  redis.call('SET', KEYS[5], token, 'PX', ARGV[7])
else
  redis.call('SET', KEYS[5], token, 'NX', 'PX', ARGV[7])
end
redis.call('ZADD', LEASES, int(now + tonumber(ARGV[7])), skeleton)
-- A member that is still in the roster, or whose absence comes from lost data, was there all along.
local told = not mine and (not again or includes(ARGV[13], tonumber(ARGV[14])))
if told then emit(ARGV[12]) end
local appended, last_seq = tonumber(ARGV[17]), seq
if mine then
  local _, last, at = split(there)
  appended, last_seq = math.max(appended, tonumber(last)), at
end
redis.call('HSET', ROSTER, skeleton, table.concat(
  { session, int(appended), int(last_seq), (told and 't' or 'u') .. int(seq), ARGV[11] }, ' '))
finish()
return { replid, epoch, seq, past, 'joined', seq, told and 1 or 0, next_deadline() }
