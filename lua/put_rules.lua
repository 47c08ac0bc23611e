-- put_rules: puts the rules of an event in force unless a version as new is in force already; creates the event.
--
-- The tokens saved up so far are carried over to a new rate (the same arithmetic as src/domain/release.rs). A floor
-- above the old one empties the line, the join marks and the passes; holds and inventory stay.
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
--   3 version
--   4 floor: passes with a smaller number are void
--   5 rate: visitors a minute
--   6 max_active: 0 = no limit
--   7 pass_ttl: microseconds
--   8 max_queue: 0 = no limit
--   9 max_per_user: 0 = no limit
--   10 state: lobby, open, paused or closed
--   11 opens_at: microseconds, or "" for none
--   12 presence: microseconds after which whoever was not seen is away; 0 = nobody is
-- REPLY
--   0, version and floor in force, numbers left, numbers past
-- ERRORS
--   none
-- WHEN FULL
--   runs: an operator must be able to pause. It writes the fields of one hash and a step of the feed, or frees

local now, version, floor, rate = clock(ARGV[1]), tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])
local event = load_trusted(KEYS[1], ARGV[2])

local function interval(a_minute) return 60000000 / a_minute end
local function burst(a_minute) return math.max(a_minute / 60, 1) end

if not event then
  redis.call('HSET', KEYS[1], 'next', '0', 'end', '0', 'spare', '0', 'spare_end', '0', 'admitted', '0', 'left', '0',
    'unsure', '1', 'lost_to', '0', 'resume_at', '0', 'run', ARGV[2],
    'spent_until', string.format('%.17g', now), 'looked_at', whole(now), 'floor', whole(floor))
  tell(KEYS[7], '^0')
elseif version <= event.version then
  return { 0, event.version, event.floor, numbers_left(event), numbers_past(event) }
else
  if event.rate ~= rate then
    local spent_until = now
    if event.rate ~= 0 and rate ~= 0 then
      local saved = (now - event.spent_until) / interval(event.rate)
      saved = math.min(math.max(saved, 0), math.min(burst(event.rate), burst(rate)))
      spent_until = now - saved * interval(rate)
    end
    redis.call('HSET', KEYS[1], 'spent_until', string.format('%.17g', spent_until))
  end
  if (event.presence or 0) ~= tonumber(ARGV[12]) then
    redis.call('UNLINK', KEYS[9], KEYS[10])
    redis.call('HSET', KEYS[1], 'seen_at', '0')
  end
  if floor > event.floor then
    redis.call('UNLINK', KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6], KEYS[8])
    tell(KEYS[7], '^' .. whole(math.max(floor, event.next) - 1))
    event.next = math.min(math.max(event.next, floor), event['end'])
    promote(event, floor)
    save_numbers(KEYS[1], event)
    event.floor = floor
    redis.call('HSET', KEYS[1], 'floor', whole(floor))
  end
end

redis.call('HSET', KEYS[1], 'version', ARGV[3], 'rate', ARGV[5], 'max_active', ARGV[6], 'pass_ttl', ARGV[7],
  'max_queue', ARGV[8], 'max_per_user', ARGV[9], 'state', ARGV[10], 'opens_at', ARGV[11], 'presence', ARGV[12])
if not event then return { 0, version, floor, 0, math.max(1, floor) } end
return { 0, version, event.floor, numbers_left(event), numbers_past(event) }
