-- Appends what members say, many messages of one room in one step.
--
-- KEYS[1..4], ARGV[1..6]: see lib.lua
-- KEYS[5..]   the lease of each sender
-- ARGV[7]     how many senders
-- ARGV[8..]   skeleton, token, session of each sender
-- then        sender (from 1), client seq, payload of each message
--
-- Reply: ..., then for each message its seq; 0 when the sender does not hold the name, or a message
-- before it is missing. When this one or a later one was appended before: minus one, minus the seq of
-- the session's last message, and by how many that one is later.

open()
local senders = {}
local count = tonumber(ARGV[7])
for i = 1, count do
  local a = 8 + (i - 1) * 3
  local sender = { skeleton = ARGV[a], dirty = false }
  if redis.call('GET', KEYS[4 + i]) == ARGV[a + 1] then
    local entry = redis.call('HGET', ROSTER, sender.skeleton)
    if entry then
      local session, last, last_seq, joined, member = split(entry)
      if session == ARGV[a + 2] then
        sender.session, sender.joined, sender.member = session, joined, member
        sender.last, sender.last_seq = tonumber(last), tonumber(last_seq)
      end
    end
  end
  senders[i] = sender
end

local reply = {}
for a = 8 + count * 3, #ARGV, 3 do
  local sender = senders[tonumber(ARGV[a])]
  local client_seq = tonumber(ARGV[a + 1])
  if not sender.session or client_seq > sender.last + 1 then
    reply[#reply + 1] = 0
  elseif client_seq <= sender.last then
    reply[#reply + 1] = { -1 - sender.last_seq, sender.last - client_seq }
  else
    sender.last, sender.last_seq, sender.dirty = client_seq, emit(ARGV[a + 2]), true
    reply[#reply + 1] = sender.last_seq
  end
end

for _, sender in ipairs(senders) do
  if sender.dirty then
    redis.call('HSET', ROSTER, sender.skeleton, table.concat(
      { sender.session, int(sender.last), int(sender.last_seq), sender.joined, sender.member }, ' '))
  end
end
finish()
return { replid, epoch, seq, past, reply }
