package cli

import "path/filepath"

// stagingDir is where Beanstalk builds a release, until it becomes /var/app/current (AppStagingDir of get-config).
const stagingDir = "/var/app/staging"

// staged is what to say to somebody who may take the present release for the one that is being deployed, as
// container_commands and predeploy hooks do, with exit status 0; "" where there is none, or a directory outside of the
// application's was chosen. A relative one is of the present release, too.
func (o *execOptions) staged(dir string) string {
	if filepath.IsAbs(o.req.Dir) || o.req.User != "" && !o.req.AppEnv {
		return ""
	}
	if found, _ := filepath.Glob(filepath.Join(dir, "*")); len(found) == 0 {
		return ""
	}
	return "a release is staged in " + dir + ", and this runs in the present one: for its code, agent exec --dir " +
		filepath.Join(dir, o.req.Dir)
}
