-- Takes a name in a room and tells the room.
--
-- KEYS[1..4], ARGV[1..6]: see log.lua and roster.lua
-- KEYS[5,6]   room, log
-- KEYS[7,8]   what has ended of the session; what is decided of the room, see decide.lua
-- ARGV[7]     the live channel
-- ARGV[8,9]   the incarnation of the replica; 1 if it has held names before
-- ARGV[10..12] skeleton, token, session
-- ARGV[13]    the member, as scripts need not know it
-- ARGV[14]    the payload of `joined`
-- ARGV[15,16] epoch and seq at which the hold was last confirmed; an empty epoch when it is new
-- ARGV[17]    the last client seq that the session knows to be appended
-- ARGV[18]    empty, or what is taken over: the stream that has the session
-- ARGV[19]    how many members the room may have; a session that comes back or takes its name again is
--             let in beyond that
-- ARGV[20]    the number of its client's attempt, in 20 digits
-- ARGV[21]    for how many milliseconds the session may linger, in 10 digits
-- ARGV[22,23] from when on this Redis was seen at work, and until when that counts, in milliseconds of
--             its clock; zero when nobody may be reaped
-- ARGV[24]    1 to refuse where the room would have to be told
-- ARGV[25,26] session and payload of `left` of the member to evict; empty for nobody
-- ARGV[27,28] of whom decisions are that concern it, or nothing; its role by its token
--
-- Reply: ..., verdict, then
--   'joined', position seq, 1 if the room was told, the last client seq that the session has appended, how many
--             streams have lost their sessions, the role that is set for it or -, what holds in the room,
--             the seq of the session's first join
--   'taken', 'ended', 'moved', 'forbidden'
--   'kicked', why
--   'banned', until when in milliseconds of Redis's clock
--   'full', 1 if somebody in the partition is overdue
--   'overtaken', the latest attempt that the session has seen
--   'overdue', the entry of whoever has the name
--   'lost', where the incarnation is: the replica has to begin another one

local incarnation, skeleton, token, session = ARGV[8], ARGV[10], ARGV[11], ARGV[12]
local attempt, linger, since, upto = ARGV[20], ARGV[21], tonumber(ARGV[22]), tonumber(ARGV[23])

enter(KEYS[5], KEYS[6], ARGV[7])

local function answer(...)
  finish()
  return { replid, epoch, seq, past, ... }
end

-- What is decided: until when it is banned and muted, its role, and what holds in the room.
local decided = redis.call('HMGET', KEYS[8], 'room', 'b' .. ARGV[27], 'm' .. ARGV[27], 'r' .. ARGV[27])
local function ends_of(value)
  local ends = value and ARGV[27] ~= '' and tonumber(string.sub(value, 1, 16)) or 0
  return ends > now and ends or 0
end
local banned, muted = ends_of(decided[2]), ends_of(decided[3])
local set_role = ends_of(decided[4]) > 0 and string.sub(decided[4], 17, 17) or '-'
local role = set_role ~= '-' and set_role or ARGV[28]
settings = decided[1] and tonumber(string.sub(decided[1], 17)) or 0

local leased = redis.call('ZSCORE', REPLICAS, incarnation)
if not leased and (ARGV[9] == '1' or redis.call('ZSCORE', DEAD, incarnation)) then
  return answer('lost')
end
-- The lease, for a full one from now.
local function hold_lease()
  redis.call('ZADD', REPLICAS, int(now + LEASE), incarnation)
  keep_until(REPLICAS, now, now + 2 * (OCCUPIED + longest))
end

local there = member(skeleton)
local mine = there and session_of(there) == session
local again, takeover = ARGV[15] ~= '', ARGV[18] ~= ''
if mine and token_of(there) == token then
  -- The answer to an earlier try was lost; or the join that the roster tells of is the one before the hold was
  -- confirmed.
  local told, joined = string.sub(there, 143, 143) == 't', struct.unpack('>d', there, 144)
  if not again or lingers(there) or (told and joined > tonumber(ARGV[16])) then
    local last, last_seq = struct.unpack('>dd', there)
    if not lingers(there) then
      hold_lease()
      if incarnation_of(there) ~= incarnation then
        redis.call('ZREM', LINGERING, place(skeleton))
        write(skeleton, last, last_seq, session, token, incarnation, nil, string.sub(there, 113))
      end
    end
    return answer('joined', joined, told and 1 or 0, last, takeovers, string.sub(there, 153, 153), int(settings),
      int(began_of(there)))
  end
end

-- The stream that has the session, and the attempt that brought it.
local has, latest
if mine then has, latest = stream(token_of(there)), attempt_of(there) end
local other = has and has ~= stream(token)
-- A member that is still in the roster, or whose absence comes from lost data, was there all along.
local told = not mine and (not again or includes(ARGV[15], tonumber(ARGV[16])))

-- Why it is refused, if it is.
local function refusal()
  -- A join that was overtaken by the end of its stream, on a connection that was given up, is void.
  local over, why = has_ended(KEYS[7], token)
  if why then return 'kicked', why end
  if banned > 0 then return 'banned', int(banned) end
  if role == 'n' then return 'forbidden' end
  if over or takeover and not mine then return 'ended' end
  if told and ARGV[24] == '1' then return 'ended' end
  if not mine then
    -- Whoever has it may be about to renew the lease, although that has ended.
    -- For its own replica this join is as good as a renewal.
    local foreign = there and (lingers(there) or incarnation_of(there) ~= incarnation)
    local free = not there
      or (foreign and kept_until(skeleton, there) <= now and may_reap(there, since, upto))
    return not free and 'taken' or nil
  end
  if not other then return nil end
  if takeover then
    if attempt < latest then return 'overtaken', latest end
    return ARGV[18] ~= has and 'moved' or nil
  end
  -- Unless that is an older stream that came back first when Redis had lost this one's join.
  if again then return not (attempt > latest) and 'moved' or nil end
  return 'taken'
end
local refused, detail = refusal()
if refused then return answer(refused, detail) end

local evicts = there and not mine
if evicts and ARGV[25] ~= session_of(there) then return answer('overdue', there) end
if not mine and not again and count_members() - (evicts and 1 or 0) >= tonumber(ARGV[19]) then
  local dead = redis.call('ZRANGE', DEAD, 0, 0, 'WITHSCORES')[2]
  local overdue = next_deadline(incarnation, now) == 0 or (dead and tonumber(dead) <= now)
  return answer('full', overdue and 1 or 0)
end
if evicts then evict(skeleton, ARGV[25], ARGV[26], since, upto) end

hold_lease()
if told then emit(ARGV[14]) end
local appended, last_seq, spoke, began = tonumber(ARGV[17]), seq, 0, seq
if mine then
  spoke, began = spoke_of(there), began_of(there)
  local last, at = struct.unpack('>dd', there)
  appended, last_seq = math.max(appended, last), at
  if lingers(there) or incarnation_of(there) ~= incarnation then
    redis.call('ZREM', LINGERING, place(skeleton))
  end
end
write(skeleton, appended, last_seq, session, token, incarnation, nil,
  table.concat({ linger, attempt, told and 't' or 'u', struct.pack('>d', seq), ARGV[28], set_role,
    struct.pack('>ddd', muted, spoke, began), ARGV[13] }))
longest = math.max(longest, tonumber(linger))
local supersedes = other and not lingers(there)
if supersedes then takeovers = takeovers + 1 end
local done = answer('joined', seq, told and 1 or 0, int(appended), takeovers, set_role, int(settings), int(began))
if supersedes then
  -- Not an event of the log: it has no seq.
  redis.call('SPUBLISH', LIVE, '! ' .. session .. ' ' .. has)
end
return done
