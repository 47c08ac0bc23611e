-- snapshot: some of the numbers in line, in order, numbers next to each other as one range. Changes nothing.
--
-- KEYS
--   1 event
--   2 line
-- ARGV
--   1 from: the first number
--   2 most: places at most
-- REPLY
--   0, the number to read on from (0 = that was all), then for each range: first, last
-- ERRORS
--   -1 the event is not known
-- WHEN FULL
--   reads

if redis.call('EXISTS', KEYS[1]) == 0 then return { UNKNOWN_EVENT } end
local most = tonumber(ARGV[2])
local places = redis.call('ZRANGEBYSCORE', KEYS[2], ARGV[1], '+inf', 'WITHSCORES', 'LIMIT', 0, most)
local reply, last = { 0, 0 }, nil
for i = 2, #places, 2 do
  local number = tonumber(places[i])
  if number ~= (last or -1) + 1 then reply[#reply + 1], reply[#reply + 2] = number, number end
  reply[#reply], last = number, number
end
if #places == 2 * most then reply[2] = last + 1 end
return reply
