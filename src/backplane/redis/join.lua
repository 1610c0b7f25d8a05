-- Takes a name in a room and tells the room.
--
-- KEYS[1..3], ARGV[1..6]: see log.lua and roster.lua
-- KEYS[4]     the lease of the name
-- KEYS[5]     what has ended of the session
-- KEYS[6..]   the lease of each member to evict
-- ARGV[7]     milliseconds of a lease
-- ARGV[8..10] skeleton, token, session
-- ARGV[11]    the member, as the roster keeps it
-- ARGV[12]    the payload of `joined`
-- ARGV[13,14] epoch and seq at which the hold was last confirmed; an empty epoch when it is new
-- ARGV[15]    1 to refuse while anybody is overdue
-- ARGV[16]    at most so many overdue members are named in a refusal
-- ARGV[17]    the last client seq that the session knows to be appended
-- ARGV[18]    empty, or what is taken over: the stream that has the session, or a dash for none
-- ARGV[19]    how many members the room may have; a session that comes back or takes its name again is
--             let in beyond that
-- ARGV[20]    the number of its client's attempt, in 20 digits
-- ARGV[21]    for how many milliseconds the session may linger
-- ARGV[22,23] from when on this Redis was seen at work, and until when that counts, in milliseconds of
--             its clock; zero when nobody may be reaped
-- ARGV[24]    1 to refuse where the room would have to be told
-- ARGV[25..]  skeleton, session, payload of `left` of each member to evict
--
-- Reply: ..., verdict, then
--   'joined', position seq, 1 if the room was told, milliseconds to the earliest deadline, the last
--             client seq that the session has appended
--   'taken', 'ended', 'moved', 'full'
--   'overtaken', the latest attempt that the session has seen
--   'overdue', skeleton and roster entry of each

local EVICTIONS = 25

local skeleton, token, session, lease = ARGV[8], ARGV[9], ARGV[10], tonumber(ARGV[7])
local attempt, since, upto = ARGV[20], tonumber(ARGV[22]), tonumber(ARGV[23])

local held = holder(KEYS[4])
local there = member(skeleton)
local mine = belongs(there, session)
local again, takeover = ARGV[13] ~= '', ARGV[18] ~= ''
if held == token and mine then
  -- The answer to an earlier try was lost; or a renewal came first, and then the join that the roster
  -- tells of is the one before the hold was confirmed.
  local _, last, _, told, joined = string.match(there, '^(%x+) (%d+) (%d+) ([tu])(%d+) ')
  joined = tonumber(joined)
  if not again or lingers(there) or (told == 't' and joined > tonumber(ARGV[14])) then
    finish()
    return { replid, epoch, seq, past, 'joined', joined, told == 't' and 1 or 0, next_deadline(),
      tonumber(last) }
  end
end

-- The stream that has the session, and the attempt that brought it. Where its entry does not tell,
-- the lease does.
local has, latest
if mine then has, latest = carrier(there) end
if mine or not there then has = has or held and stream(held) end
local other = has and has ~= stream(token)
-- Only the room was lost: nobody has heard anything of its member.
local proven = again and has and not there and not other
-- A member that is still in the roster, or whose absence comes from lost data, was there all along.
local told = not mine and not proven and (not again or includes(ARGV[13], tonumber(ARGV[14])))

-- Why it is refused, if it is.
local function refusal()
  if takeover and not mine then return 'ended' end
  -- A join that was overtaken by the end of its stream, on a connection that was given up, is void.
  if has_ended(KEYS[5], token) then return 'ended' end
  if told and ARGV[24] == '1' then return 'ended' end
  if proven then return nil end
  if not mine then
    -- A name is kept for a while although its lease has ended, and whoever has it may be about to
    -- renew it.
    local free = not there or (is_late(skeleton) and may_reap(there, lease, since, upto))
    return ((held and held ~= token) or not free) and 'taken' or nil
  end
  if not other then return nil end
  if takeover then
    if latest and attempt < latest then return 'overtaken' end
    return ARGV[18] ~= has and 'moved' or nil
  end
  -- Unless that is an older stream that came back first when Redis had lost this one's join.
  if again then return not (latest and attempt > latest) and 'moved' or nil end
  return 'taken'
end
local refused = refusal()
if refused then
  finish()
  return { replid, epoch, seq, past, refused, latest }
end

-- Whoever stands in the way and is not to be evicted is named, and nothing is changed.
local evicted = {}
for a = EVICTIONS, #ARGV, 3 do evicted[ARGV[a]] = ARGV[a + 1] end
local overdue, limit = {}, 2 * tonumber(ARGV[16])
local function look_at(name)
  local entry = member(name)
  local holder = entry and (split(entry))
  if holder and holder ~= session and evicted[name] ~= holder and #overdue < limit
      and may_reap(entry, lease, since, upto) then
    overdue[#overdue + 1] = name
    overdue[#overdue + 1] = entry
  end
end
look_at(skeleton)
if ARGV[15] == '1' and not mine then
  for _, name in ipairs(redis.call('ZRANGEBYSCORE', NAMES, '-inf', int(now), 'LIMIT', 0, limit)) do
    if #overdue >= limit then break end
    if name ~= skeleton then look_at(name) end
  end
end
if #overdue > 0 then
  finish()
  return { replid, epoch, seq, past, 'overdue', overdue }
end

-- Whether the room has as many members as it may have even without those that are evicted now.
local function is_full()
  local members, most = count_members(), tonumber(ARGV[19])
  if members < most then return false end
  local going = {}
  for i = 1, #KEYS - 5 do
    local a = EVICTIONS + (i - 1) * 3
    if not going[ARGV[a]] and is_overdue(KEYS[5 + i], ARGV[a], ARGV[a + 1])
        and may_reap(member(ARGV[a]), lease, since, upto) then
      going[ARGV[a]] = true
      members = members - 1
    end
  end
  return members >= most
end
if not mine and not again and is_full() then
  finish()
  return { replid, epoch, seq, past, 'full' }
end

if not mine then
  for i = 1, #KEYS - 5 do
    local a = EVICTIONS + (i - 1) * 3
    evict(KEYS[5 + i], ARGV[a], ARGV[a + 1], ARGV[a + 2], lease, since, upto)
  end
end
redis.call('SET', KEYS[4], token, 'PX', ARGV[7])
redis.call('ZADD', NAMES, int(now + lease + tonumber(ARGV[21])), skeleton)
if told then emit(ARGV[12]) end
local appended, last_seq = tonumber(ARGV[17]), seq
if mine then
  local _, last, at = split(there)
  appended, last_seq = math.max(appended, tonumber(last)), at
end
redis.call('HSET', ROOM, '@' .. skeleton, table.concat(
  { session, int(appended), int(last_seq), (told and 't' or 'u') .. int(seq), ARGV[11] }, ' '))
finish()
if mine and other and not lingers(there) then
  -- Not an event of the log: it has no seq.
  redis.call('SPUBLISH', LIVE, '! ' .. session .. ' ' .. has)
end
return { replid, epoch, seq, past, 'joined', seq, told and 1 or 0, next_deadline(), int(appended) }
