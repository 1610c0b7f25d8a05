-- Tries every command that the other scripts use, on keys and a channel of its own, so that what is
-- missing shows before a room needs it. Leaves nothing behind.
--
-- KEYS[1..4]  a hash, a stream, a sorted set and a string that nobody else uses
-- ARGV[1]     a channel that nobody listens to
--
-- Reply: for each command that cannot be used its name, a colon, and what Redis says

-- In milliseconds of Redis's clock. All is deleted in the end.
local LATER = '4102444800000'
local HASH, STREAM, SORTED, STRING = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local trials = {
  { 'TIME' },
  { 'INFO', 'replication' },
  { 'DEL', HASH, STREAM, SORTED, STRING },
  { 'HSET', HASH, 'a', '1' },
  { 'HGET', HASH, 'a' },
  { 'HMGET', HASH, 'a', 'b' },
  { 'HLEN', HASH },
  { 'HSCAN', HASH, '0', 'COUNT', '1' },
  { 'XADD', STREAM, '1-0', 'a', '1' },
  { 'XRANGE', STREAM, '-', '+', 'COUNT', '1' },
  { 'XTRIM', STREAM, 'MAXLEN', '~', '1' },
  { 'ZADD', SORTED, '1', 'a' },
  { 'ZSCORE', SORTED, 'a' },
  { 'ZMSCORE', SORTED, 'a', 'b' },
  { 'ZSCAN', SORTED, '0', 'COUNT', '1' },
  { 'ZRANGE', SORTED, '0', '0', 'WITHSCORES' },
  { 'ZRANGEBYSCORE', SORTED, '-inf', '1' },
  { 'SET', STRING, '1', 'PX', '1000' },
  { 'GET', STRING },
  { 'PEXPIRE', STRING, '1000' },
  { 'PEXPIREAT', HASH, LATER },
  { 'PEXPIREAT', STREAM, LATER },
  { 'PEXPIREAT', SORTED, LATER },
  { 'PTTL', HASH },
  { 'HDEL', HASH, 'a' },
  { 'ZREM', SORTED, 'a' },
  { 'SPUBLISH', ARGV[1], '' },
  { 'DEL', HASH, STREAM, SORTED, STRING },
}
local missing = {}
for _, command in ipairs(trials) do
  local answer = redis.pcall(unpack(command))
  if type(answer) == 'table' and answer.err then
    missing[#missing + 1] = command[1] .. ': ' .. answer.err
  end
end
return missing
