program SelfTest;

uses
  SysUtils;

begin
  WriteLn(UpperCase('ok'));
end.
