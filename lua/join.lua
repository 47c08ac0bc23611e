-- join: gives each visitor a place, in the order of the batch.
--
-- A visitor who is in line, or has a good pass, gets that. A new place goes to the back: its number is the next of the
-- block. The first join of a second leaves a mark, "number:microseconds".
--
-- KEYS
--   1 event
--   2 line
--   3 joins
--   4 passes
--   5 active
--   6 feed
--   7 parked
-- ARGV
--   1 now: microseconds, or "" for the store's clock
--   2 run: that of the server, as the caller was told
--   3 known: the highest number that the caller knows to be handed out
--   4.. visitor
-- REPLY
--   0, then four numbers a visitor:
--   1 number position joined_at: a new place          2 number position joined_at: in line already
--   3 number admitted_at expires_at: has a good pass  4 0 0 0: the line is full
--   5 0 0 0: the queue is closed                      6 0 0 0: no number is left
--   7 number 0 joined_at: parked
-- ERRORS
--   -1 the event is not known
-- WHEN FULL
--   tries: whoever has a place is told of it, unless the batch has somebody who takes memory

local line, joins = KEYS[2], KEYS[3]
local event = load_trusted(KEYS[1], ARGV[2])
if not event then return { UNKNOWN_EVENT } end
if #ARGV < 4 then return { 0 } end

local now = clock(ARGV[1])
local numbers = redis.call('ZMSCORE', line, unpack(ARGV, 4))
local passes = redis.call('HMGET', KEYS[4], unpack(ARGV, 4))
local away = redis.call('ZMSCORE', KEYS[7], unpack(ARGV, 4))
local waiting, parked = redis.call('ZCARD', line), redis.call('ZCARD', KEYS[7])
-- An instance knows of numbers that this store has not come to: it is older than they are.
if event.next <= tonumber(ARGV[3]) then abandon(KEYS[1], event, tonumber(ARGV[3]) + 1) end
local closed = state_at(event, now) == 'closed'
local reply, places, added = { 0 }, {}, {}
local ranges, last, told = {}, -1, {}

local function answer(code, a, b, c)
  local n = #reply
  reply[n + 1], reply[n + 2], reply[n + 3], reply[n + 4] = code, a or 0, b or 0, c or 0
end

-- The time that stands for this second: that of its mark, which is made if there is none.
local marked
local function mark(number)
  if not marked then
    local last = redis.call('ZRANGE', joins, -1, -1)[1]
    marked = last and tonumber(string.match(last, ':(.+)$'))
    if not marked or math.floor(marked / 1000000) ~= math.floor(now / 1000000) then
      redis.call('ZADD', joins, whole(number), whole(number) .. ':' .. whole(now))
      marked = now
    end
  end
  return marked
end

for i, text in ipairs(passes) do
  local visitor, number, pass = ARGV[i + 3], tonumber(numbers[i] or nil), read_pass(text)
  if places[visitor] then
    answer(2, places[visitor].number, places[visitor].position, marked)
  elseif number then
    answer(2, number, redis.call('ZRANK', line, visitor) + 1, joined_at(joins, number))
  elseif pass and is_good(pass, now, KEYS[5], visitor) then
    answer(3, pass.number, pass.admitted, pass.expires)
  elseif away[i] then
    answer(7, tonumber(away[i]), 0, joined_at(joins, away[i]))
  elseif closed then
    answer(5)
  elseif event.max_queue > 0 and waiting + parked >= event.max_queue then
    answer(4)
  elseif event.next >= event['end'] then
    answer(6)
  else
    number = event.next
    event.next, waiting = number + 1, waiting + 1
    promote(event, 0)
    places[visitor] = { number = number, position = waiting }
    added[#added + 1], added[#added + 2] = whole(number), visitor
    -- A number that does not follow the last one (the block ended) begins a new range.
    if number ~= last + 1 then ranges[#ranges + 1], ranges[#ranges + 2] = number, 0 end
    last, ranges[#ranges] = number, number
    answer(1, number, waiting, mark(number))
  end
end
if #added > 0 then
  redis.call('ZADD', line, unpack(added))
  save_numbers(KEYS[1], event)
  for i = 1, #ranges, 2 do told[#told + 1] = '+' .. whole(ranges[i]) .. '-' .. whole(ranges[i + 1]) end
  tell(KEYS[6], table.concat(told, ' '))
end
return reply
