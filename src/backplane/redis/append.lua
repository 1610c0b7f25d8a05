-- Appends what members say, many messages of one room in one step.
--
-- KEYS[1..4], ARGV[1..6]: see log.lua
-- KEYS[5..]   the lease of each run's sender. A run is what one sender says one after another
-- ARGV[7]     how many runs
-- ARGV[8..]   of each run: skeleton, token and session of its sender, its first client seq, how many
--             messages
-- then        the payload of each message, run by run
--
-- Reply: ..., then for each run the seq of its first message; 0 when the sender does not hold the name, or a
-- message before it is missing. When its first messages were appended before: minus one, minus the seq of
-- the session's last message; by how many that one is later than the first; the seq of the first that was not.

local runs = tonumber(ARGV[7])
local skeletons = {}
for i = 1, runs do skeletons[i] = ARGV[3 + 5 * i] end
local tokens = redis.call('MGET', unpack(KEYS, 5, 4 + runs))
local entries = redis.call('HMGET', ROSTER, unpack(skeletons))

local senders, reply = {}, {}
local payload = 8 + 5 * runs
for i = 1, runs do
  local at = 3 + 5 * i
  local token, session = ARGV[at + 1], ARGV[at + 2]
  local first, count = tonumber(ARGV[at + 3]), tonumber(ARGV[at + 4])
  -- Every hold has a token of its own. What its sender said before in this call is not in its entry.
  local sender = senders[token]
  if not sender then
    sender = { skeleton = skeletons[i], session = session }
    local entry, held = entries[i], tokens[i]
    if held and string.sub(held, 1, TOKEN) == token
        and entry and string.sub(entry, 1, #session) == session then
      local last, last_seq, rest = string.match(entry, '^ (%d+) (%d+) (.*)$', #session + 1)
      sender.last, sender.last_seq, sender.rest = tonumber(last), tonumber(last_seq), rest
    end
    senders[token] = sender
  end
  if not sender.last or first > sender.last + 1 then
    reply[i] = 0
  else
    -- So many were appended before, or all of them.
    local known = sender.last + 1 - first
    reply[i] = known == 0 and seq + 1 or { -1 - sender.last_seq, known - 1, seq + 1 }
    for a = payload + known, payload + count - 1 do emit(ARGV[a]) end
    if known < count then
      sender.last, sender.last_seq, sender.dirty = first + count - 1, seq, true
    end
  end
  payload = payload + count
end

local changes = {}
for _, sender in pairs(senders) do
  if sender.dirty then
    changes[#changes + 1] = sender.skeleton
    changes[#changes + 1] = sender.session
      .. ' ' .. int(sender.last) .. ' ' .. int(sender.last_seq) .. ' ' .. sender.rest
  end
end
if changes[1] then redis.call('HSET', ROSTER, unpack(changes)) end
if seq > before then note_said() end
publish()
-- Of all keys this can only have made the log.
local lives = redis.call('PTTL', META) >= tonumber(ARGV[6])
if not lives or (seq > before and redis.call('PTTL', LOG) < 0) then live_on() end
return { replid, epoch, seq, past, reply }
