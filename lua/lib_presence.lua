-- lib_presence: what the scripts share about who was seen lately.

-- Numbers are kept in blocks, a bit for each. Two windows of half the presence time, each a hash of blocks; `at` in it
-- says which window of time it holds, and window w lies at w % 2.
local BLOCK = 4096
local BITS = '<' .. string.rep('I4', BLOCK / 32)

local function window_at(event, time) return math.floor(time * 2 / event.presence) end

-- Makes room for a window; false when it is over and a later one lies there.
local function open_window(key, window)
  local at = tonumber(redis.call('HGET', key, 'at') or nil)
  if at and at > window then return false end
  if at ~= window then
    redis.call('UNLINK', key)
    redis.call('HSET', key, 'at', whole(window))
  end
  return true
end

-- Adds bits to those of a block.
local function see_block(key, block, bits)
  local known = redis.call('HGET', key, block)
  if known then
    local a, b = { struct.unpack(BITS, known) }, { struct.unpack(BITS, bits) }
    for i = 1, BLOCK / 32 do a[i] = bit.bor(a[i], b[i]) % 4294967296 end
    bits = struct.pack(BITS, unpack(a, 1, BLOCK / 32))
  end
  redis.call('HSET', key, block, bits)
end

-- One visitor is seen now, if the rules ask for it.
local function see_number(event, windows, number, now)
  if (event.presence or 0) == 0 then return end
  local window, at = window_at(event, now), number % BLOCK
  local key = windows[window % 2 + 1]
  if not open_window(key, window) then return end
  local before, after = math.floor(at / 8), BLOCK / 8 - 1 - math.floor(at / 8)
  local bits = string.rep('\0', before) .. string.char(2 ^ (at % 8)) .. string.rep('\0', after)
  see_block(key, whole(math.floor(number / BLOCK)), bits)
end

-- Marks those of the numbers that were seen in a window.
local function read_window(key, window, numbers, seen)
  local fields, places = { 'at' }, {}
  for _, number in ipairs(numbers) do
    local block = math.floor(number / BLOCK)
    if not places[block] then fields[#fields + 1], places[block] = whole(block), #fields + 1 end
  end
  local blocks = redis.call('HMGET', key, unpack(fields))
  if tonumber(blocks[1] or nil) ~= window then return end
  for _, number in ipairs(numbers) do
    local block, at = blocks[places[math.floor(number / BLOCK)]], number % BLOCK
    local byte = block and string.byte(block, math.floor(at / 8) + 1) or 0
    if math.floor(byte / 2 ^ (at % 8)) % 2 == 1 then seen[number] = true end
  end
end

-- Says of each number whether its holder is known to be away: not seen in either window, and joined before them. Nobody
-- is where nobody told who was seen for a window's time, nor before that has gone on for the whole time.
local function who_is_away(event, windows, joins, numbers, now)
  local span, told, away, seen = event.presence or 0, event.seen_at or 0, {}, {}
  if span == 0 or told == 0 or now - told > span / 2 or now < event.seen_since + span then return away end
  local last = window_at(event, now)
  for window = last - 1, last do read_window(windows[window % 2 + 1], window, numbers, seen) end
  for _, number in ipairs(numbers) do
    away[number] = not seen[number] and joined_at(joins, number) + span <= now
  end
  return away
end
