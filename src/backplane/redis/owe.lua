-- Notes that a name owes what was said under it, and tells for how long it does.
--
-- KEYS[1]     there for as long as the name owes something
-- ARGV[1]     milliseconds from now; 0 to ask only
--
-- Reply: for how many milliseconds

local left, more = redis.call('PTTL', KEYS[1]), tonumber(ARGV[1])
if more > left then
  if more > 0 then redis.call('SET', KEYS[1], '1', 'PX', ARGV[1]) end
  left = more
end
return { left }
