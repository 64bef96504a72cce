package appenv

import "fmt"

// Parse reads data in the named format: "systemd" (Amazon Linux 2023's), "systemd-219" (Amazon Linux 2's), "dotenv"
// or "docker".
func Parse(format string, data []byte) (File, error) {
	switch format {
	case "systemd":
		return ParseSystemd(data, AmazonLinux2023)
	case "systemd-219":
		return ParseSystemd(data, AmazonLinux2)
	case "dotenv":
		return ParseDotenv(data)
	case "docker":
		return ParseDocker(data)
	}
	return File{}, fmt.Errorf("unknown format %q: expected systemd, dotenv or docker "+
		"(or systemd-219, Amazon Linux 2's)", format)
}

// In returns the file with path as the File of its faults.
func (f File) In(path string) File {
	f.Dropped = f.Dropped.In(path)
	return f
}
