package scheduler

// combineDays decides how the two fields of days go together, and warns where both restrict, which is often meant
// otherwise. In crontab(5) a time is due on the days of either field, but where one of them begins with a star on the
// days of both: cronie looks at the first character alone (src/entry.c, DOM_STAR), robfig at every element without a
// step. A job with a url is due as Beanstalk's own daemon has it, which is robfig's rule.
func (z *zoned) combineDays(dom, dow string, posted bool) (note, hint string) {
	if !posted {
		z.spec.Dom = marked(z.spec.Dom, starred(dom))
		z.spec.Dow = marked(z.spec.Dow, starred(dow))
	}
	anyDom, anyDow := z.spec.Dom&allDoms == allDoms, z.spec.Dow&allDows == allDows
	switch {
	case anyDom && anyDow, z.both() && (anyDom || anyDow):
		return "", ""
	case anyDom || anyDow:
		return ": due every day, as crontab(5) takes the days of either field", "write * for the field that may be any"
	case z.both():
		note = ": due on such a day of the month only if it is such a weekday too: one of the two begins with a star"
		return note, ""
	}
	return ": due on each such day of the month and also on each such weekday, as in crontab(5)",
		`for the first Sunday of a month write 0 9 * * 0 and begin the command with [ "$(date +%d)" -le 7 ] &&`
}

func starred(field string) bool { return field[0] == '*' || field[0] == '?' }

// marked gives a field's mask with the star as said.
func marked(mask uint64, starred bool) uint64 {
	if starred {
		return mask | star
	}
	return mask &^ star
}
