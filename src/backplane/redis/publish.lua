-- Appends messages of services, which are no members, many messages of many rooms in one step.
--
-- KEYS        of each room: room, log, rooms; then the idempotency key of each of its messages that has one
-- ARGV[1..5]  see log.lua
-- ARGV[6]     for how many milliseconds idempotency keys are known, from when they were last used
-- ARGV[7..]   of each room: its channel, how many messages; then of each message: the skeleton of its name, empty
--             for the server's own; what tells it from others under its idempotency key, 16 bytes, empty where it
--             has no key; its payload
--
-- Reply: replication id, then of each room an error, or epoch, then for each message its seq; 0 when a member has
-- the name; -1 when the key stands for another message; epoch and seq when it was appended before.

local TAKEN, REUSED = 0, -1

-- What an idempotency key stands for: 16 bytes that tell the message from others, epoch, seq.
local function known(entry, digest)
  if string.sub(entry, 1, 16) ~= digest then return REUSED end
  return { string.sub(entry, 17, 32), tonumber(string.sub(entry, 33)) }
end

-- Appends the messages of the room whose keys and arguments begin there.
local function append(key, arg, count)
  local fields = { 'log' }
  for a = arg + 2, arg + 3 * count, 3 do
    if ARGV[a] ~= '' then fields[#fields + 1] = '@' .. ARGV[a] end
  end
  local state = redis.call('HMGET', KEYS[key], unpack(fields))
  open(KEYS[key], KEYS[key + 1], KEYS[key + 2], ARGV[arg], state[1])

  local reply, sent, next_key, next_field = { epoch }, {}, key + 3, 2
  for message = 1, count do
    local a, held = arg + 3 * message - 1, false
    if ARGV[a] ~= '' then
      held = state[next_field]
      next_field = next_field + 1
    end
    local digest, idempotency = ARGV[a + 1], nil
    if digest ~= '' then
      idempotency = KEYS[next_key]
      next_key = next_key + 1
    end
    local before_it = idempotency and (sent[idempotency] or redis.call('GET', idempotency))
    if before_it then
      reply[message + 1] = known(before_it, digest)
      -- Something has to be written for `WAIT` to wait for: another connection may have appended it.
      redis.call('PEXPIRE', idempotency, ARGV[6])
    elseif held then
      reply[message + 1] = TAKEN
    else
      reply[message + 1] = emit(ARGV[a + 2])
      if idempotency then sent[idempotency] = digest .. epoch .. int(seq) end
    end
  end
  -- Where nothing is new, nothing is written.
  if seq == before then return reply end
  said = 1
  if redis.call('HLEN', ROOM) > (state[1] and 1 or 0) then
    close(OCCUPIED + longest, {})
  else
    longest = 0
    close(remember, {})
  end
  for idempotency, entry in pairs(sent) do
    redis.call('SET', idempotency, entry, 'PX', ARGV[6])
  end
  return reply
end

local replies = { ARGV[1] }
local key, arg = 1, 7
while key <= #KEYS do
  local count = tonumber(ARGV[arg + 1])
  -- What is wrong with one room is no other room's affair.
  local done, reply = pcall(append, key, arg, count)
  if done then
    replies[1] = replid
  elseif type(reply) ~= 'table' then
    reply = { err = tostring(reply) }
  end
  replies[#replies + 1] = reply
  key = key + 3
  for a = arg + 3, arg + 3 * count, 3 do
    if ARGV[a] ~= '' then key = key + 1 end
  end
  arg = arg + 2 + 3 * count
end
return replies
