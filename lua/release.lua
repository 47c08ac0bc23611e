-- release: lets the next visitors in, as many as there are tokens and free slots; nobody is taken out of the line
-- without being recorded as admitted, or as parked because they are away, in the same step.
--
-- Passes that ran out do not count, swept or not. The bucket's arithmetic is that of src/domain/release.rs, in the same
-- order.
--
-- KEYS
--   1 event
--   2 line
--   3 joins
--   4 passes
--   5 active
--   6 ended
--   7 feed
--   8 parked
--   9 seen0
--   10 seen1
-- ARGV
--   1 now: microseconds, or "" for the store's clock
--   2 run: that of the server, as the caller was told
--   3 batch: most to take out of the line
--   4 since: microseconds since the caller's last release by a clock that nobody moves, or "" where that is not known
-- REPLY
--   0, admitted, parked, then the counters as of counters
-- ERRORS
--   -1 the event is not known
-- WHEN FULL
--   refused: a pass takes more than a place, and could not be used where reservations find no memory either

local line, passes, active, ended, parked = KEYS[2], KEYS[4], KEYS[5], KEYS[6], KEYS[8]
local event = load_trusted(KEYS[1], ARGV[2])
if not event then return { UNKNOWN_EVENT } end
local now, batch = clock(ARGV[1]), tonumber(ARGV[3])

local LEEWAY = 500000
-- Visitors who may be let in now, each a token.
local tokens, step, spent_until = 0, 0, 0
if event.rate > 0 and state_at(event, now) == 'open' and event.unsure ~= 1 and now >= (event.resume_at or 0) then
  local most = math.min(batch, redis.call('ZCARD', line))
  if event.max_active > 0 then
    local out = redis.call('ZCOUNT', active, '(' .. whole(now), '+inf')
    most = math.min(most, math.max(0, event.max_active - out))
  end
  step, spent_until = 60000000 / event.rate, event.spent_until
  local since, gap = tonumber(ARGV[4]), now - (event.looked_at or now)
  if since and (gap < 0 or gap > since + LEEWAY) then spent_until = math.min(spent_until + gap, now) end
  if spent_until > now + 2 * step then spent_until = now end
  spent_until = math.max(spent_until, now - math.max(event.rate / 60, 1) * step)
  tokens = math.min(math.max(math.floor((now - spent_until) / step), 0), most)
end

local expires = whole(now + event.pass_ttl)
local rest = string.format(' a %.0f %s', now, expires)
local records, out, visitors, absent = {}, {}, {}, {}
local function admit(visitor, number)
  records[#records + 1], records[#records + 2] = visitor, number .. rest
  out[#out + 1], out[#out + 2] = expires, visitor
  visitors[#visitors + 1] = visitor
end

local gone = 0
if tokens > 0 and (event.presence or 0) == 0 then
  local popped = redis.call('ZPOPMIN', line, tokens)
  for i = 1, #popped, 2 do admit(popped[i], popped[i + 1]) end
  gone = popped[#popped]
elseif tokens > 0 then
  local front, numbers = redis.call('ZRANGE', line, 0, batch - 1, 'WITHSCORES'), {}
  for i = 2, #front, 2 do numbers[#numbers + 1] = tonumber(front[i]) end
  local away, looked = who_is_away(event, { KEYS[9], KEYS[10] }, KEYS[3], numbers, now), 0
  while looked < #numbers and #visitors < tokens do
    local visitor, number = front[2 * looked + 1], front[2 * looked + 2]
    looked = looked + 1
    if away[numbers[looked]] then
      absent[#absent + 1], absent[#absent + 2] = number, visitor
    else
      admit(visitor, number)
    end
    gone = number
  end
  redis.call('ZREMRANGEBYRANK', line, 0, looked - 1)
end

put('HSET', passes, records)
put('ZADD', active, out)
put('ZADD', parked, absent)
if #visitors > 0 and redis.call('EXISTS', ended) == 1 then redis.call('ZREM', ended, unpack(visitors)) end
if gone ~= 0 then tell(KEYS[7], '^' .. gone) end
if step > 0 then
  event.admitted = event.admitted + #visitors
  redis.call('HSET', KEYS[1], 'spent_until', string.format('%.17g', spent_until + #visitors * step), 'admitted',
    whole(event.admitted), 'looked_at', whole(now))
end
return put_counters({ 0, #visitors, #absent / 2 }, event, line, parked, active, now)
