package devices

import "strings"

// platform is one of Home Assistant's platforms: the keys that it
// requires, and those that are topics. Other keys it leaves out.
type platform struct{ requires, topics []string }

// platforms are what an entity can be.
var platforms = map[string]platform{
	"alarm_control_panel": {requires: strings.Fields("command_topic state_topic"), topics: strings.Fields("command_topic state_topic")},
	"binary_sensor":       {requires: strings.Fields("state_topic"), topics: strings.Fields("state_topic")},
	"button":              {requires: strings.Fields("command_topic"), topics: strings.Fields("command_topic")},
	"camera":              {requires: strings.Fields("topic"), topics: strings.Fields("topic")},
	"climate": {topics: strings.Fields("action_topic current_humidity_topic current_temperature_topic fan_mode_command_topic " +
		"fan_mode_state_topic mode_command_topic mode_state_topic power_command_topic " +
		"preset_mode_command_topic preset_mode_state_topic swing_horizontal_mode_command_topic " +
		"swing_horizontal_mode_state_topic swing_mode_command_topic swing_mode_state_topic " +
		"target_humidity_command_topic target_humidity_state_topic temperature_command_topic " +
		"temperature_high_command_topic temperature_high_state_topic temperature_low_command_topic " +
		"temperature_low_state_topic temperature_state_topic")},
	"cover":             {topics: strings.Fields("command_topic position_topic set_position_topic state_topic tilt_command_topic tilt_status_topic")},
	"date":              {requires: strings.Fields("command_topic"), topics: strings.Fields("command_topic state_topic")},
	"datetime":          {requires: strings.Fields("command_topic"), topics: strings.Fields("command_topic state_topic")},
	"device_automation": {requires: strings.Fields("automation_type subtype topic type")},
	"device_tracker":    {topics: strings.Fields("state_topic")},
	"event":             {requires: strings.Fields("event_types state_topic"), topics: strings.Fields("state_topic")},
	"fan": {requires: strings.Fields("command_topic"), topics: strings.Fields("command_topic direction_command_topic direction_state_topic oscillation_command_topic " +
		"oscillation_state_topic percentage_command_topic percentage_state_topic preset_mode_command_topic " +
		"preset_mode_state_topic state_topic")},
	"humidifier": {requires: strings.Fields("command_topic target_humidity_command_topic"), topics: strings.Fields("action_topic command_topic current_humidity_topic mode_command_topic mode_state_topic state_topic " +
		"target_humidity_command_topic target_humidity_state_topic")},
	"image":    {topics: strings.Fields("image_topic url_topic")},
	"infrared": {},
	"lawn_mower": {topics: strings.Fields("activity_state_topic dock_command_topic pause_command_topic start_mowing_command_topic " +
		"stop_command_topic")},
	"light": {requires: strings.Fields("command_topic"), topics: strings.Fields("brightness_command_topic brightness_state_topic color_mode_state_topic color_temp_command_topic " +
		"color_temp_state_topic command_topic effect_command_topic effect_state_topic hs_command_topic " +
		"hs_state_topic rgb_command_topic rgb_state_topic rgbw_command_topic rgbw_state_topic " +
		"rgbww_command_topic rgbww_state_topic state_topic white_command_topic xy_command_topic " +
		"xy_state_topic")},
	"lock":   {requires: strings.Fields("command_topic"), topics: strings.Fields("command_topic state_topic")},
	"notify": {requires: strings.Fields("command_topic"), topics: strings.Fields("command_topic")},
	"number": {requires: strings.Fields("command_topic"), topics: strings.Fields("command_topic state_topic")},
	"remote": {},
	"scene":  {requires: strings.Fields("command_topic"), topics: strings.Fields("command_topic")},
	"select": {requires: strings.Fields("command_topic options"), topics: strings.Fields("command_topic state_topic")},
	"sensor": {requires: strings.Fields("state_topic"), topics: strings.Fields("state_topic")},
	"siren":  {requires: strings.Fields("command_topic"), topics: strings.Fields("command_topic state_topic")},
	"switch": {requires: strings.Fields("command_topic"), topics: strings.Fields("command_topic state_topic")},
	"tag":    {requires: strings.Fields("topic"), topics: strings.Fields("topic")},
	"text":   {requires: strings.Fields("command_topic"), topics: strings.Fields("command_topic state_topic")},
	"time":   {requires: strings.Fields("command_topic"), topics: strings.Fields("command_topic state_topic")},
	"update": {requires: strings.Fields("state_topic"), topics: strings.Fields("command_topic latest_version_topic state_topic")},
	"vacuum": {topics: strings.Fields("clean_segments_command_topic command_topic send_command_topic set_fan_speed_topic state_topic")},
	"valve":  {topics: strings.Fields("command_topic state_topic")},
	"water_heater": {topics: strings.Fields("current_temperature_topic mode_command_topic mode_state_topic power_command_topic " +
		"temperature_command_topic temperature_state_topic")},
}
