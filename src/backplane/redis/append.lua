-- Appends what members say, many messages of many rooms in one step.
--
-- KEYS        of each room: room, log, names, then the lease of each run's sender. A run is what one sender
--             says one after another
-- ARGV[1..5]  see log.lua
-- ARGV[6..]   of each room: its channel, how many runs; of each run: skeleton, token and session of its
--             sender, its first client seq, how many messages; then the payload of each message, run by run
--
-- Reply: replication id, then of each room an error, or epoch, then for each run the seq of its first
-- message; 0 when the sender does not hold the name, or a message before it is missing. When its first
-- messages were appended before: minus one, minus the seq of the session's last message; by how many that
-- one is later than the first; the seq of the first that was not; the epoch in which that last one was written.

-- The epoch in which an entry was written.
local function written_in(entry)
  for e, s in string.gmatch(past, '(%x+):(%d+)') do
    if entry <= tonumber(s) then return e end
  end
  return epoch
end

-- Appends the messages of one run, or as many of them as were not appended before. What the sender said before
-- in this call is in `sender`.
local function append_run(sender, from, count, payload)
  if not sender.last or from > sender.last + 1 then return 0 end
  local known = sender.last + 1 - from
  local at = known == 0 and seq + 1
    or { -1 - sender.last_seq, known - 1, seq + 1, written_in(sender.last_seq) }
  for a = payload + known, payload + count - 1 do emit(ARGV[a]) end
  if known < count then
    sender.last, sender.last_seq, sender.dirty = from + count - 1, seq, true
  end
  return at
end

-- Who speaks, if the token is the lease's and the session is the member's.
local function sender_of(token, session, held, entry)
  local sender = { session = session }
  if held and string.sub(held, 1, TOKEN) == token
      and entry and string.sub(entry, 1, #session) == session then
    local last, last_seq, rest = string.match(entry, '^ (%d+) (%d+) (.*)$', #session + 1)
    sender.last, sender.last_seq, sender.rest = tonumber(last), tonumber(last_seq), rest
  end
  return sender
end

-- Appends what is said in the room whose keys and arguments begin there.
local function append(key, arg, runs)
  local fields, run, payload = { 'log' }, arg + 2, arg + 2 + 5 * runs
  for i = 1, runs do fields[i + 1] = '@' .. ARGV[run + 5 * (i - 1)] end
  local state = redis.call('HMGET', KEYS[key], unpack(fields))
  local tokens = redis.call('MGET', unpack(KEYS, key + 3, key + 2 + runs))
  open(KEYS[key], KEYS[key + 1], ARGV[arg], state[1])

  local senders, changes, reply = {}, {}, { epoch }
  for i = 1, runs do
    -- Every hold has a token of its own.
    local token, count = ARGV[run + 1], tonumber(ARGV[run + 4])
    local sender = senders[token]
    if not sender then
      sender = sender_of(token, ARGV[run + 2], tokens[i], state[i + 1])
      sender.field = fields[i + 1]
      senders[token] = sender
    end
    reply[i + 1] = append_run(sender, tonumber(ARGV[run + 3]), count, payload)
    run, payload = run + 5, payload + count
  end
  for _, sender in pairs(senders) do
    if sender.dirty then
      changes[#changes + 1] = sender.field
      -- What is encoded has zeros, at which a format would end.
      changes[#changes + 1] =
        string.format('%s %d %d ', sender.session, sender.last, sender.last_seq) .. sender.rest
    end
  end
  if seq > before then said = 1 end
  -- Where nobody is, nothing is made.
  if state[1] then close(remember, changes, { ROOM, LOG, KEYS[key + 2] }) end
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
  for i = 1, runs do messages = messages + ARGV[arg + 1 + 5 * i] end
  key, arg = key + 3 + runs, arg + 2 + 5 * runs + messages
end
return replies
