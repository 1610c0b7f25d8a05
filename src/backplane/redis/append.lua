-- Appends what members say, many messages of many rooms in one step.
--
-- KEYS        of each room: room, log, rooms, replicas
-- ARGV[1..5]  see log.lua
-- ARGV[6..]   of each room: its channel, how many runs; of each run, which is what one sender says one after another: skeleton
--             of its sender; session, token and incarnation of its hold in one; its first client seq, how many
--             messages; then the payload of each message, run by run
--
-- Reply: replication id, then of each room an error, or epoch, then for each run the seq of its first
-- message; 0 when the sender does not hold the name, or a message before it is missing. When its first
-- messages were appended before: minus one, minus the seq of the session's last message; by how many that
-- one is later than the first; the seq of the first that was not; the epoch in which that last one was written.

-- When the sender may not say all of it: why (`muted`, `reader`, `read-only`, `slow`), the seq of its first message, how
-- many were appended, and until when it is muted, in milliseconds of Redis's clock, or after how many it may go on.

-- Where the hold begins and ends in a member's field, its incarnation in the hold, and what says that it lingers.
local HOLD, HOLD_END, INCARNATION, LINGERS = 17, 96, 65, string.byte('l')
local ROLES, SILENCE, SPOKE = 152, 154, 162
-- The set role and the silence of a member of whom nothing was decided.
local FREE = '-' .. string.rep('\0', 8)
local sub = string.sub

-- When leases end that were looked up: an incarnation is of one partition.
local leases = {}

-- Why a sender may not speak, and for how long, if so; or how long it has to wait after each message.
local function silence(entry)
  if settings == 0 and sub(entry, ROLES + 1, SPOKE - 1) == FREE then return nil end
  local muted, spoke = struct.unpack('>dd', entry, SILENCE)
  if muted > now then return 'muted', muted end
  local role = sub(entry, ROLES + 1, ROLES + 1)
  if role == 'r' then return 'reader', 0 end
  if role == '-' then role = sub(entry, ROLES, ROLES) end
  if settings == 0 or role == 'd' or role == 'o' then return nil end
  if settings % 2 == 1 then return 'read-only', 0 end
  local slow = math.floor(settings / 4)
  if slow == 0 then return nil end
  if spoke + slow > now then return 'slow', spoke + slow - now end
  return nil, 0, slow
end

-- Appends the messages of one run, or as many of them as were not appended before. What the sender said before
-- in this call is in `sender`.
local function append_run(sender, from, count, payload)
  if not sender.last or from > sender.last + 1 then return 0 end
  local known = sender.last + 1 - from
  local at = seq + 1
  if known > 0 then
    -- The epoch in which the last one was written.
    local written = epoch
    for e, s in string.gmatch(past, '(%x+):(%d+)') do
      if sender.last_seq <= tonumber(s) then
        written = e
        break
      end
    end
    at = { -1 - sender.last_seq, known - 1, seq + 1, written }
  end
  if known >= count then return at end
  local why, time, slow = silence(sender.entry)
  local may = why and 0 or slow and 1 or count - known
  for a = payload + known, payload + known + may - 1 do emit(ARGV[a]) end
  if may > 0 then
    sender.last, sender.last_seq, sender.dirty = from + known + may - 1, seq, true
    if slow then
      sender.entry = sub(sender.entry, 1, SPOKE - 1) .. struct.pack('>d', now) .. sub(sender.entry, SPOKE + 8)
    end
  end
  if known + may == count then return at end
  -- Of those that were there before it is known; it is asked again for the others.
  if known > 0 then return at end
  return { why or 'slow', at, may, int(time > 0 and time or slow or 0) }
end

-- Who speaks, if the member has this hold, the lease stands, and it has not ended.
local function sender_of(hold, entry, replicas)
  if not entry or sub(entry, HOLD, HOLD_END) ~= hold then return {} end
  local incarnation = sub(hold, INCARNATION)
  local ends = leases[incarnation]
  if not ends then
    ends = tonumber(redis.call('ZSCORE', replicas, incarnation) or 0)
    leases[incarnation] = ends
  end
  if ends <= now or string.byte(entry, HOLD_END + 1) == LINGERS
      and tonumber(sub(entry, HOLD_END + 2, HOLD_END + 16)) <= now then
    return {}
  end
  local last, last_seq = struct.unpack('>dd', entry)
  return { last = last, last_seq = last_seq, entry = entry }
end

-- Appends what is said in the room whose keys and arguments begin there.
local function append(key, arg, runs)
  local fields, run, payload = { 'log' }, arg + 2, arg + 2 + 4 * runs
  for i = 1, runs do fields[i + 1] = '@' .. ARGV[run + 4 * (i - 1)] end
  local state = redis.call('HMGET', KEYS[key], unpack(fields))
  open(KEYS[key], KEYS[key + 1], KEYS[key + 2], ARGV[arg], state[1])

  local senders, changes, reply = {}, {}, { epoch }
  for i = 1, runs do
    -- Every hold has a token of its own.
    local hold, count = ARGV[run + 1], tonumber(ARGV[run + 3])
    local sender = senders[hold]
    if not sender then
      sender = sender_of(hold, state[i + 1], KEYS[key + 3])
      sender.field = fields[i + 1]
      senders[hold] = sender
    end
    reply[i + 1] = append_run(sender, tonumber(ARGV[run + 2]), count, payload)
    run, payload = run + 4, payload + count
  end
  for _, sender in pairs(senders) do
    if sender.dirty then
      changes[#changes + 1] = sender.field
      changes[#changes + 1] =
        struct.pack('>dd', sender.last, sender.last_seq) .. sub(sender.entry, HOLD)
    end
  end
  if seq > before then said = 1 end
  -- Where nobody is, nothing is made.
  if state[1] then close(OCCUPIED + longest, changes) end
  return reply
end

local replies = { ARGV[1] }
local key, arg = 1, 6
while key <= #KEYS do
  local runs = tonumber(ARGV[arg + 1])
  -- What is wrong with one room is no other room's affair.
  local done, reply = pcall(append, key, arg, runs)
  if done then
    replies[1] = replid
  elseif type(reply) ~= 'table' then
    reply = { err = tostring(reply) }
  end
  replies[#replies + 1] = reply
  local messages = 0
  for i = 1, runs do messages = messages + ARGV[arg + 1 + 4 * i] end
  key, arg = key + 4, arg + 2 + 4 * runs + messages
end
return replies
