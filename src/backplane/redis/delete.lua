-- Deletes a room and its log, unless somebody is in it.
--
-- KEYS[1..3]  rooms, room, log: see log.lua
-- ARGV[1]     the room's name
--
-- Reply: 1 when it is deleted, 0 when it is not there, minus the number of its members when somebody is in it

if not redis.call('HGET', KEYS[2], 'log') then return 0 end
local members = redis.call('HLEN', KEYS[2]) - 1
if members > 0 then return -members end
redis.call('DEL', KEYS[2], KEYS[3])
redis.call('ZREM', KEYS[1], ARGV[1])
return 1
