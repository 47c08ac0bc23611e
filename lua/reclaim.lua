-- reclaim: puts visitors back in line at their own numbers: those who were parked, and those whose places the store has
-- lost and their tickets prove.
--
-- A place was lost if its number was handed out by another store (it lies below lost_to, or this store has not come to
-- it yet: then this one is older than the number, and gives up what numbers it has). Otherwise it was given up.
--
-- KEYS
--   1 event
--   2 line
--   3 joins
--   4 passes
--   5 active
--   6 feed
--   7 parked
--   8 seen0
--   9 seen1
-- ARGV
--   1 now: microseconds, or "" for the store's clock
--   2 run: that of the server, as the caller was told
--   3 place_ttl: microseconds for which a place is honoured
--   4.. visitor, number, joined_at
-- REPLY
--   0, then four numbers a visitor, as of locate
-- ERRORS
--   -1 the event is not known
--   -2 a visitor without a number or a time
-- WHEN FULL
--   tries: whoever has a place is told of it, unless the batch has somebody who takes memory

local line, joins, parked, windows = KEYS[2], KEYS[3], KEYS[7], { KEYS[8], KEYS[9] }
local event = load_trusted(KEYS[1], ARGV[2])
if not event then return { UNKNOWN_EVENT } end
if #ARGV % 3 ~= 0 then return { BAD_ARGUMENTS } end

local now, reply, told = clock(ARGV[1]), { 0 }, {}
local oldest = now - tonumber(ARGV[3])

-- The place that the ticket proves, unless the visitor has a better one, a pass of it, or it is somebody else's.
local function was_lost(number, joined, place, pass)
  if (place and place <= number) or (pass and pass.number >= number) then return false end
  if number < math.max(1, event.floor) or joined <= oldest then return false end
  if number >= event.next then abandon(KEYS[1], event, number + 1) end
  if number >= (event.lost_to or 0) then return false end
  local digits = whole(number)
  return redis.call('ZCOUNT', line, digits, digits) + redis.call('ZCOUNT', parked, digits, digits) == 0
end

local function stand(visitor, number)
  redis.call('ZADD', line, whole(number), visitor)
  told[#told + 1] = '+' .. whole(number) .. '-' .. whole(number)
  see_number(event, windows, number, now)
  return number
end

for i = 4, #ARGV, 3 do
  local visitor, number, joined = ARGV[i], tonumber(ARGV[i + 1]), tonumber(ARGV[i + 2])
  local place = tonumber(redis.call('ZSCORE', line, visitor) or nil)
  local pass = read_pass(redis.call('HGET', KEYS[4], visitor))
  local away = not place and tonumber(redis.call('ZSCORE', parked, visitor) or nil)
  if away then
    redis.call('ZREM', parked, visitor)
    place = stand(visitor, away)
  end
  if was_lost(number, joined, place, pass) then
    if place then told[#told + 1] = '-' .. whole(place) end
    place = stand(visitor, number)
    if joined_at(joins, number) ~= joined then
      redis.call('ZREMRANGEBYSCORE', joins, whole(number), whole(number))
      redis.call('ZADD', joins, whole(number), whole(number) .. ':' .. whole(joined))
    end
  end
  if place then
    local n = #reply
    reply[n + 1], reply[n + 2], reply[n + 3] = 1, place, redis.call('ZRANK', line, visitor) + 1
    reply[n + 4] = joined_at(joins, place)
  else
    put_standing(reply, pass, now, KEYS[5], visitor)
  end
end
if #told > 0 then tell(KEYS[6], table.concat(told, ' ')) end
return reply
