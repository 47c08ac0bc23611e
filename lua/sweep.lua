-- sweep: drops what is over, a batch of each: passes that ran out lose their slots, passes that ended long ago are
-- forgotten, join marks that no place needs and places that are too old are dropped. A release comes right after it.
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
-- ARGV
--   1 now: microseconds, or "" for the store's clock
--   2 batch: most of each kind
--   3 ended_ttl: microseconds for which an ended pass is remembered
--   4 place_ttl: microseconds for which a place is honoured
-- REPLY
--   0
-- ERRORS
--   -1 the event is not known
-- WHEN FULL
--   runs: it frees, and nothing else would

local line, joins, passes, active, ended, parked = KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6], KEYS[8]
local event = load_event(KEYS[1])
if not event then return { UNKNOWN_EVENT } end
local now, batch, ended_ttl, place_ttl = clock(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])

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

-- The mark of the first place, and those before it, which nobody needs.
local function first(key) return tonumber(redis.call('ZRANGE', key, 0, 0, 'WITHSCORES')[2] or nil) end
local in_line, away = first(line), first(parked)
local front = in_line and math.min(in_line, away or in_line) or away or event.next
local mark = redis.call('ZREVRANGEBYSCORE', joins, whole(front), '-inf', 'WITHSCORES', 'LIMIT', 0, 1)[2]
put('ZREM', joins, mark and redis.call('ZRANGEBYSCORE', joins, '-inf', '(' .. mark, 'LIMIT', 0, batch) or {})

local oldest = redis.call('ZRANGE', joins, 0, 1, 'WITHSCORES')
if oldest[1] and tonumber(string.match(oldest[1], ':(.+)$')) + place_ttl < now then
  local until_next = oldest[4] and '(' .. oldest[4] or '+inf'
  local gone = redis.call('ZRANGEBYSCORE', parked, '-inf', until_next, 'LIMIT', 0, batch)
  put('ZREM', parked, gone)
  local stale = redis.call('ZCOUNT', line, '-inf', until_next)
  local popped = stale > 0 and redis.call('ZPOPMIN', line, math.min(stale, batch)) or {}
  if #popped > 0 then tell(KEYS[7], '^' .. popped[#popped]) end
  if #gone + #popped > 0 then redis.call('HSET', KEYS[1], 'left', whole(event.left + #gone + #popped / 2)) end
end
return { 0 }
