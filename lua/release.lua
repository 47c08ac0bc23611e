-- release: lets the next visitors in, as many as there are tokens and free slots; nobody is taken out of the line
-- without being recorded as admitted in the same step.
--
-- Before that it sweeps, a batch of each: passes that ran out lose their slots, passes that ended long ago are
-- forgotten, join marks that no place needs and places that are too old are dropped. Passes that ran out do not count,
-- swept or not. The bucket's arithmetic is that of src/domain/release.rs, in the same order.
--
-- KEYS
--   1 event
--   2 line
--   3 joins
--   4 passes
--   5 active
--   6 ended
--   7 feed
-- ARGV
--   1 now: microseconds, or "" for the store's clock
--   2 run: that of the server, as the caller was told
--   3 batch: most to admit, and most to sweep of each kind
--   4 ended_ttl: microseconds for which an ended pass is remembered
--   5 place_ttl: microseconds for which a place is honoured
-- REPLY
--   0, admitted, then state (1 lobby 2 open 3 paused 4 closed), waiting, active, admitted ever, left, version,
--   numbers left, at
-- ERRORS
--   -1 the event is not known

local line, joins, passes, active, ended = KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6]
local event = load_trusted(KEYS[1], ARGV[2])
if not event then return { UNKNOWN_EVENT } end
local now, batch, ended_ttl, place_ttl = clock(ARGV[1]), tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])

-- The passes keep their records as they are: one whose visitor is not among the active ones has run out.
local expired = redis.call('ZRANGEBYSCORE', active, '-inf', whole(now), 'WITHSCORES', 'LIMIT', 0, batch)
if #expired > 0 then
  local over, visitors = {}, {}
  for i = 1, #expired, 2 do
    over[i], over[i + 1] = whole(expired[i + 1] + ended_ttl), expired[i]
    visitors[#visitors + 1] = expired[i]
  end
  redis.call('ZADD', ended, unpack(over))
  redis.call('ZREM', active, unpack(visitors))
end

local old = redis.call('ZRANGEBYSCORE', ended, '-inf', whole(now), 'LIMIT', 0, batch)
if #old > 0 then
  redis.call('HDEL', passes, unpack(old))
  redis.call('ZREM', ended, unpack(old))
end

-- The mark of the place at the front, and those before it, which nobody needs.
local front = redis.call('ZRANGE', line, 0, 0, 'WITHSCORES')[2] or whole(event.next)
local mark = redis.call('ZREVRANGEBYSCORE', joins, front, '-inf', 'WITHSCORES', 'LIMIT', 0, 1)[2]
local needless = mark and redis.call('ZRANGEBYSCORE', joins, '-inf', '(' .. mark, 'LIMIT', 0, batch) or {}
put('ZREM', joins, needless)

local gone_up_to
local oldest = redis.call('ZRANGE', joins, 0, 1, 'WITHSCORES')
if oldest[1] and tonumber(string.match(oldest[1], ':(.+)$')) + place_ttl < now then
  local until_next = oldest[4] and '(' .. oldest[4] or '+inf'
  local stale = redis.call('ZCOUNT', line, '-inf', until_next)
  if stale > 0 then
    local popped = redis.call('ZPOPMIN', line, math.min(stale, batch))
    event.left, gone_up_to = event.left + #popped / 2, popped[#popped]
    redis.call('HSET', KEYS[1], 'left', whole(event.left))
  end
end

local admitted = 0
if event.rate > 0 and state_at(event, now) == 'open' and event.unsure ~= 1 and now >= (event.resume_at or 0) then
  local most = math.min(batch, redis.call('ZCARD', line))
  if event.max_active > 0 then
    local out = redis.call('ZCOUNT', active, '(' .. whole(now), '+inf')
    most = math.min(most, math.max(0, event.max_active - out))
  end
  local step, spent_until = 60000000 / event.rate, event.spent_until
  if spent_until > now + 2 * step then spent_until = now end
  spent_until = math.max(spent_until, now - math.max(event.rate / 60, 1) * step)
  admitted = math.min(math.max(math.floor((now - spent_until) / step), 0), most)
  spent_until = spent_until + admitted * step
  event.admitted = event.admitted + admitted
  redis.call('HSET', KEYS[1], 'spent_until', string.format('%.17g', spent_until), 'admitted', whole(event.admitted))
end
if admitted > 0 then
  local expires = whole(now + event.pass_ttl)
  local records, out, visitors = {}, {}, {}
  local rest = string.format(' a %.0f %s', now, expires)
  local popped = redis.call('ZPOPMIN', line, admitted)
  for i = 1, #popped, 2 do
    records[i], records[i + 1] = popped[i], popped[i + 1] .. rest
    out[i], out[i + 1] = expires, popped[i]
    visitors[#visitors + 1] = popped[i]
  end
  gone_up_to = popped[#popped]
  redis.call('HSET', passes, unpack(records))
  redis.call('ZADD', active, unpack(out))
  if redis.call('EXISTS', ended) == 1 then redis.call('ZREM', ended, unpack(visitors)) end
end
if gone_up_to then tell(KEYS[7], '^' .. gone_up_to) end
return put_counters({ 0, admitted }, event, line, active, now)
