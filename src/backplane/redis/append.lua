-- Appends what members say, many messages of one room in one step.
--
-- KEYS[1..4], ARGV[1..6]: see log.lua
-- KEYS[5..]   the lease of each sender
-- ARGV[7]     how many senders
-- ARGV[8..]   skeleton, token, session of each sender
-- then        sender (from 1), client seq, payload of each message
--
-- Reply: ..., then for each message its seq; 0 when the sender does not hold the name, or a message
-- before it is missing. When this one or a later one was appended before: minus one, minus the seq of
-- the session's last message, and by how many that one is later.

local senders, skeletons = {}, {}
local count = tonumber(ARGV[7])
for i = 1, count do skeletons[i] = ARGV[5 + 3 * i] end
local tokens = redis.call('MGET', unpack(KEYS, 5, 4 + count))
local entries = redis.call('HMGET', ROSTER, unpack(skeletons))
for i = 1, count do
  local sender, session, entry, held = {}, ARGV[7 + 3 * i], entries[i], tokens[i]
  if held and string.sub(held, 1, TOKEN) == ARGV[6 + 3 * i]
      and entry and string.sub(entry, 1, #session) == session then
    local last, last_seq, rest = string.match(entry, '^ (%d+) (%d+) (.*)$', #session + 1)
    sender.session, sender.rest = session, rest
    sender.last, sender.last_seq = tonumber(last), tonumber(last_seq)
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

local changes = {}
for i, sender in ipairs(senders) do
  if sender.dirty then
    changes[#changes + 1] = skeletons[i]
    changes[#changes + 1] = sender.session
      .. ' ' .. int(sender.last) .. ' ' .. int(sender.last_seq) .. ' ' .. sender.rest
  end
end
if changes[1] then redis.call('HSET', ROSTER, unpack(changes)) end
publish()
-- Of all keys this can only have made the log.
local lives = redis.call('PTTL', META) >= tonumber(ARGV[6])
if not lives or (seq > before and redis.call('PTTL', LOG) < 0) then live_on() end
return { replid, epoch, seq, past, reply }
