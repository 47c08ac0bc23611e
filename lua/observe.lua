-- observe: takes in what the ledger says. Holds that are not known and tallies that are not newer are passed over.
--
-- Tallies come before the holds that they settle, so that seats counted in both show as taken, never as free.
--
-- KEYS
--   1 event
--   2 passes
--   3 active
--   4 ended
--   5 zones
--   6 holds
--   7 due
--   8 buyers
-- ARGV
--   1 ended_ttl: microseconds for which an ended pass is remembered
--   2 zones: how many
--   3 buyers: how many
--   4 settled: how many
--   5.. zone, capacity, taken, version; then visitor, taken, version; then bookings: the settled ones, the undone ones
-- REPLY
--   0, then for each zone whose availability changed: zone, before (-1 = not known), after
-- ERRORS
--   -1 the event is not known

if redis.call('EXISTS', KEYS[1]) == 0 then return { UNKNOWN_EVENT } end
local ended_ttl, reply, at = tonumber(ARGV[1]), { 0 }, 5
local zones, before, order, changed = {}, {}, {}, {}

-- The zone, read once; `touch` notes what was available before the first change.
local function zone_of(name)
  if zones[name] == nil then zones[name] = read_zone(redis.call('HGET', KEYS[5], name)) or false end
  return zones[name]
end
local function touch(name)
  if not before[name] then
    order[#order + 1] = name
    before[name] = zones[name] and available(zones[name]) or -1
  end
end

for _ = 1, tonumber(ARGV[2]) do
  local name, capacity, taken, version = unpack(ARGV, at, at + 3)
  local zone = zone_of(name)
  if not zone or tonumber(version) > zone.version then
    touch(name)
    zones[name] = { capacity = tonumber(capacity), taken = tonumber(taken), version = tonumber(version),
      held = zone and zone.held or 0 }
  end
  at = at + 4
end

for _ = 1, tonumber(ARGV[3]) do
  local visitor, taken, version = unpack(ARGV, at, at + 2)
  local known = redis.call('HGET', KEYS[8], visitor)
  if not known or tonumber(version) > tonumber(string.match(known, ' (.+)$')) then
    redis.call('HSET', KEYS[8], visitor, taken .. ' ' .. version)
  end
  at = at + 3
end

-- A pass that the booking has in use becomes used (u), or active again (a); if its slot is gone, that means expired.
local function resolve(visitor, number, booking, settled)
  local pass = read_pass(redis.call('HGET', KEYS[2], visitor))
  if not pass or pass.number ~= number or pass.booking ~= booking then return end
  if settled then
    redis.call('ZREM', KEYS[3], visitor)
    redis.call('ZADD', KEYS[4], whole(pass.expires + ended_ttl), visitor)
    pass.state = 'u'
  else
    pass.state = 'a'
  end
  pass.booking = nil
  redis.call('HSET', KEYS[2], visitor, pass_text(pass))
end

local undone = at + tonumber(ARGV[4])
for i = at, #ARGV do
  local booking = ARGV[i]
  local hold = redis.call('HGET', KEYS[6], booking)
  if hold then
    local visitor, number, name, quantity = string.match(hold, '^(%S+) (%S+) (%S+) (%d+)')
    if zone_of(name) then
      touch(name)
      zones[name].held = math.max(0, zones[name].held - tonumber(quantity))
    end
    redis.call('HDEL', KEYS[6], booking)
    redis.call('ZREM', KEYS[7], booking)
    if number ~= '-' then resolve(visitor, tonumber(number), booking, i < undone) end
  end
end

for _, name in ipairs(order) do
  changed[#changed + 1], changed[#changed + 2] = name, zone_text(zones[name])
  local after = available(zones[name])
  if after ~= before[name] then
    reply[#reply + 1], reply[#reply + 2], reply[#reply + 3] = name, before[name], after
  end
end
if #changed > 0 then redis.call('HSET', KEYS[5], unpack(changed)) end
return reply
